#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
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

/// Why a document counts as broken; none if it does not.
using Refusal = std::function<std::optional<std::string>(const Document&)>;

struct DocumentOptions {
  bool skip_bad = false;  ///< leave out and count broken records instead of refusing the file
  Refusal refusal = {};   ///< called with each record's document; may be empty
};

struct Documents {
  std::vector<Document> documents;
  int64_t skipped = 0;  ///< broken records
};

/// How a file holds documents. Its name counts without regard to case.
enum class DocumentForm {
  kText,    ///< plain text: any other name
  kLines,   ///< a record in each line: .jsonl, .ndjson, and a .json of that form
  kArray,   ///< one array of records
  kObjects  ///< records over several lines each, the first of which is a bracket alone
};

/// By the name and what stands in the file.
DocumentForm document_form(const std::filesystem::path& path, std::string_view bytes);

/// A record, one of
///
///   {"messages": [{"role", "content"}, ..]}
///   {"conversations": [{"from", "value"}, ..]}
///   {"data": ["the user's words", "the answer", ..]}
///   {"instruction", "input" (may be missing or null), "output"}
///   {"text"}, which may be empty, whatever columns stand beside it
///
/// A turn of either list may have the keys of the other. Roles are system; user or human;
/// assistant, gpt, chatgpt, bot or model. Content is a string, or a list of parts of type
/// text, which are joined.
/// `path` and `where` ("line 12") are for messages. Throws FormatError for what is none
/// of these, not valid UTF-8 or not JSON.
Document parse_document(std::string_view record, const std::filesystem::path& path,
                        std::string_view where);

/// Any JSON value of a line; `where` stands in messages between path and reason.
/// Throws FormatError.
nlohmann::json parse_json_line(std::string_view line, const std::filesystem::path& path,
                               std::string_view where);

/// Calls `read`; a FormatError of `path` that it throws is thrown again with `where` between
/// path and reason.
void with_place(const std::filesystem::path& path, std::string_view where,
                const std::function<void()>& read);

/// Whether a line holds nothing but spaces: no document, and no mistake.
bool is_blank_line(std::string_view line);

/// A record's place among the bytes of its file.
struct Record {
  size_t begin = 0, size = 0;
};

/// Calls `take` with every record of a file that is no kText; how many were left out.
/// Throws FormatError naming the line of one that is broken, unless they are skipped, and of
/// an array without an end, and for bytes that are not UTF-8 as a whole: another encoding.
int64_t for_each_record(std::string_view bytes, DocumentForm form,
                        const std::filesystem::path& path, const DocumentOptions& options,
                        const std::function<void(const Record&, Document&&)>& take);

/// Reads a file of records or, whole, of plain text.
/// Throws FormatError naming the line that is no document, and for a file without any
/// document; SystemError if it cannot be read.
Documents read_documents(const std::filesystem::path& path, const DocumentOptions& options = {});

}  // namespace schmidt::text
