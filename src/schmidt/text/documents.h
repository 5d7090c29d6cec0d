#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "schmidt/text/chat.h"

namespace schmidt::text {

/// A conversation, or a piece of plain text.
struct Document {
  std::vector<Message> messages;  ///< empty: `text` counts
  std::string text;
};

struct DocumentOptions {
  bool skip_bad = false;  ///< leave out and count broken lines instead of refusing the file
};

struct Documents {
  std::vector<Document> documents;
  int64_t skipped = 0;  ///< broken lines
};

/// Reads a file of JSON Lines (.jsonl) or, whole, of plain text (any other name). A line
/// is one of
///
///   {"messages": [{"role", "content"}, ..]}
///   {"conversations": [{"from": "human" | "gpt" | "system", "value"}, ..]}
///   {"data": ["the user's words", "the answer", ..]}
///   {"instruction", "input" (may be missing), "output"}
///   {"text"}
///
/// Throws FormatError naming the line for one that is none of these, not valid UTF-8
/// or not JSON; for a file without any document; SystemError if it cannot be read.
Documents read_documents(const std::filesystem::path& path, const DocumentOptions& options = {});

}  // namespace schmidt::text
