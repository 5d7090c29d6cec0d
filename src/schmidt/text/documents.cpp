#include "schmidt/text/documents.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

/// Reads one line's form; none where the line has another one. Throws json::exception
/// where the form's keys hold something else.
using Reader = std::optional<Document> (*)(const json& line);

std::optional<Document> read_messages(const json& line) {
  if (!line.contains("messages")) return std::nullopt;
  Document document;
  for (const json& message : line.at("messages")) {
    document.messages.push_back(
        {message.at("role").get<std::string>(), message.at("content").get<std::string>()});
  }
  return document;
}

std::optional<Document> read_sharegpt(const json& line) {
  if (!line.contains("conversations")) return std::nullopt;
  static const std::map<std::string, std::string> kRoles = {{"human", "user"},
                                                            {"user", "user"},
                                                            {"gpt", "assistant"},
                                                            {"assistant", "assistant"},
                                                            {"system", "system"}};
  Document document;
  for (const json& turn : line.at("conversations")) {
    const auto role = kRoles.find(turn.at("from").get<std::string>());
    if (role == kRoles.end()) return std::nullopt;
    document.messages.push_back({role->second, turn.at("value").get<std::string>()});
  }
  return document;
}

std::optional<Document> read_turns(const json& line) {
  if (!line.contains("data")) return std::nullopt;
  Document document;
  for (const json& turn : line.at("data")) {
    document.messages.push_back(
        {document.messages.size() % 2 == 0 ? "user" : "assistant", turn.get<std::string>()});
  }
  return document;
}

std::optional<Document> read_instruction(const json& line) {
  if (!line.contains("instruction")) return std::nullopt;
  std::string question = line.at("instruction").get<std::string>();
  const std::string input = line.value("input", "");
  if (!input.empty()) question += "\n" + input;
  return Document{{{"user", question}, {"assistant", line.at("output").get<std::string>()}}, {}};
}

std::optional<Document> read_plain(const json& line) {
  if (!line.contains("text")) return std::nullopt;
  return Document{{}, line.at("text").get<std::string>()};
}

constexpr std::array<Reader, 5> kReaders = {read_messages, read_sharegpt, read_turns,
                                            read_instruction, read_plain};

Documents read_lines(std::ifstream& in, const std::filesystem::path& path,
                     const DocumentOptions& options) {
  Documents result;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (is_blank_line(line)) continue;
    try {
      result.documents.push_back(parse_document(line, path, fmt::format("line {}", number)));
    } catch (const FormatError&) {
      if (!options.skip_bad) throw;
      ++result.skipped;
    }
  }
  return result;
}

}  // namespace

json parse_json_line(std::string_view line, const std::filesystem::path& path,
                     std::string_view where) {
  try {
    return io::parse_json(line, path);
  } catch (const FormatError& e) {
    // The parser knows the path only: the place goes between path and reason.
    std::string_view reason = e.what();
    const std::string before = path.string() + ": ";
    if (reason.starts_with(before)) reason.remove_prefix(before.size());
    throw FormatError(path, where, reason);
  }
}

Document parse_document(std::string_view line, const std::filesystem::path& path,
                        std::string_view where) {
  constexpr const char* kExpected =
      "expected messages, conversations, data, instruction and output, or text";
  const json value = parse_json_line(line, path, where);
  if (!value.is_object()) throw FormatError(path, where, kExpected);
  for (const Reader reader : kReaders) {
    try {
      std::optional<Document> document = reader(value);
      if (document && (!document->messages.empty() || !document->text.empty())) return *document;
    } catch (const json::exception& e) {
      throw FormatError(path, where, e.what());
    }
  }
  throw FormatError(path, where, kExpected);
}

bool is_blank_line(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

Documents read_documents(const std::filesystem::path& path, const DocumentOptions& options) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) throw SystemError("cannot read", path, EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  Documents result;
  if (path.extension() == ".jsonl") {
    result = read_lines(in, path, options);
  } else {
    std::string content{std::istreambuf_iterator<char>(in), {}};
    if (!is_valid_utf8(content)) throw FormatError(path, "text", "expected UTF-8");
    if (!content.empty()) result.documents.push_back({{}, std::move(content)});
  }
  if (result.documents.empty()) throw FormatError(path, "text", "expected some, found none");
  return result;
}

}  // namespace schmidt::text
