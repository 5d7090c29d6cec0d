#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

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

/// A line of JSON Lines, one of
///
///   {"messages": [{"role", "content"}, ..]}
///   {"conversations": [{"from": "human" | "gpt" | "system", "value"}, ..]}
///   {"data": ["the user's words", "the answer", ..]}
///   {"instruction", "input" (may be missing), "output"}
///   {"text"}
///
/// `path` and `where` ("line 12") are for messages. Throws FormatError for what is none
/// of these, not valid UTF-8 or not JSON.
Document parse_document(std::string_view line, const std::filesystem::path& path,
                        std::string_view where);

/// Any JSON value of a line; `where` stands in messages between path and reason.
/// Throws FormatError.
nlohmann::json parse_json_line(std::string_view line, const std::filesystem::path& path,
                               std::string_view where);

/// Whether a line holds nothing but spaces: no document, and no mistake.
bool is_blank_line(std::string_view line);

/// Reads a file of JSON Lines (.jsonl) or, whole, of plain text (any other name).
/// Throws FormatError naming the line that is no document; for a file without any
/// document; SystemError if it cannot be read.
Documents read_documents(const std::filesystem::path& path, const DocumentOptions& options = {});

}  // namespace schmidt::text
