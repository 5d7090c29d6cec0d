#include "schmidt/text/documents.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/text/json_view.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

constexpr std::string_view kSpaces = " \t\r\n";

std::string lower(std::string text) {
  for (char& c : text) c = 'A' <= c && c <= 'Z' ? static_cast<char>(c + 0x20) : c;
  return text;
}

/// Reads one record's form; none where the record has another one.
using Reader = std::optional<Document> (*)(const JsonView& record);

std::string role_of(const JsonView& name) {
  static const std::map<std::string, std::string> kRoles = {
      {"system", "system"}, {"user", "user"},           {"human", "user"},
      {"gpt", "assistant"}, {"assistant", "assistant"}, {"chatgpt", "assistant"},
      {"bot", "assistant"}, {"model", "assistant"}};
  const auto role = kRoles.find(lower(name.string()));
  if (role == kRoles.end()) {
    name.fail(fmt::format("expected the role system, user or assistant, got \"{}\"",
                          name.string().substr(0, 40)));
  }
  return role->second;
}

std::string content_of(const JsonView& content) {
  if (!content.value().is_array()) return content.string();
  std::string joined;
  for (const JsonView& part : content.items()) {
    if (part.value().is_string()) {
      joined += part.string();
      continue;
    }
    if (const std::string type = part.string_or("type", "text"); type != "text") {
      part.fail(fmt::format("expected a part of type \"text\", got \"{}\"", type.substr(0, 40)));
    }
    joined += part.at("text").string();
  }
  return joined;
}

// The member of either name. Throws FormatError naming the first.
JsonView member(const JsonView& turn, const char* name, const char* other) {
  const std::optional<JsonView> found = turn.find(name);
  return found ? *found : turn.find(other) ? turn.at(other) : turn.at(name);
}

/// What else a turn says in words; numbers and the like are for programs.
std::vector<std::pair<std::string, std::string>> other_texts(const JsonView& turn) {
  static const std::set<std::string> kKnown = {"role", "from", "content", "value", "tool_calls"};
  std::vector<std::pair<std::string, std::string>> texts;
  for (const auto& [name, value] : turn.value().items()) {
    if (value.is_string() && !kKnown.contains(name)) texts.emplace_back(name, value);
  }
  return texts;
}

/// Throws FormatError where the model was offered tools.
void check_no_tools(const JsonView& record) {
  const std::optional<JsonView> tools = record.find("tools");
  if (!tools || tools->value().empty() || tools->value() == "" || tools->value() == "[]") return;
  tools->fail("expected a conversation without tools, which are not supported");
}

/// A turn of the system that stands beside the others, first.
void begin_with_system(Document& document, const JsonView& record) {
  const std::string text = record.string_or("system", "");
  if (!text.empty()) document.messages.insert(document.messages.begin(), {"system", text});
}

Document conversation(const JsonView& turns) {
  Document document;
  for (const JsonView& turn : turns.items()) {
    std::string role = role_of(member(turn, "role", "from"));
    const std::optional<JsonView> calls = turn.find("tool_calls");
    if (calls && !calls->value().empty()) {
      calls->fail("expected a turn of text, got calls of tools, which are not supported");
    }
    document.messages.push_back(
        {std::move(role), content_of(member(turn, "content", "value")), other_texts(turn)});
  }
  return document;
}

std::optional<Document> read_messages(const JsonView& record) {
  const auto turns = record.find("messages");
  if (!turns) return std::nullopt;
  check_no_tools(record);
  return conversation(*turns);
}

std::optional<Document> read_sharegpt(const JsonView& record) {
  const auto turns = record.find("conversations");
  if (!turns) return std::nullopt;
  check_no_tools(record);
  Document document = conversation(*turns);
  begin_with_system(document, record);
  return document;
}

std::optional<Document> read_turns(const JsonView& record) {
  const auto turns = record.find("data");
  if (!turns) return std::nullopt;
  Document document;
  for (const JsonView& turn : turns->items()) {
    document.messages.push_back(
        {document.messages.size() % 2 == 0 ? "user" : "assistant", turn.string()});
  }
  return document;
}

std::optional<Document> read_instruction(const JsonView& record) {
  const auto instruction = record.find("instruction");
  if (!instruction) return std::nullopt;
  std::string question = instruction->string();
  const std::string input = record.string_or("input", "");
  if (!input.empty()) question += "\n" + input;
  Document document;
  if (const auto history = record.find("history")) {
    for (const JsonView& turn : history->items()) {
      const std::vector<JsonView> both = turn.items();
      if (both.size() != 2) turn.fail("expected a question and its answer");
      document.messages.push_back({"user", both[0].string()});
      document.messages.push_back({"assistant", both[1].string()});
    }
  }
  document.messages.push_back({"user", question});
  document.messages.push_back({"assistant", record.at("output").string()});
  begin_with_system(document, record);
  return document;
}

std::optional<Document> read_plain(const JsonView& record) {
  const auto text = record.find("text");
  return text ? std::optional(Document{{}, text->string()}) : std::nullopt;
}

/// Whether a record is its text, which may be empty, whatever other columns are called.
bool is_text_alone(const json& record) {
  const auto has = [&](const char* key, bool (json::*is)() const noexcept) {
    const auto found = record.find(key);
    return found != record.end() && ((*found).*is)();
  };
  if (!has("text", &json::is_string)) return false;
  for (const char* turns : {"messages", "conversations", "data"}) {
    if (has(turns, &json::is_array) && !record[turns].empty()) return false;
  }
  return !(record.contains("instruction") && record.contains("output"));
}

constexpr std::array<Reader, 5> kReaders = {read_messages, read_sharegpt, read_turns,
                                            read_instruction, read_plain};

// Records one by one, with the line of each, from 1.
class Records {
 public:
  Records(std::string_view bytes, DocumentForm form, const std::filesystem::path& path)
      : bytes_(bytes), form_(form), path_(path) {
    if (bytes.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    if (form == DocumentForm::kArray) at_ = bytes.find('[', at_) + 1;
    count_lines(0, at_);
  }

  // The next record; none behind the last.
  std::optional<Record> next() {
    switch (form_) {
      case DocumentForm::kArray:
        return next_of_array();
      case DocumentForm::kObjects:
        return next_of_objects();
      default:
        return next_of_lines();
    }
  }
  int64_t line() const { return line_; }  // of the record that came last

 private:
  void count_lines(size_t begin, size_t end) {
    next_line_ += std::count(bytes_.begin() + static_cast<std::ptrdiff_t>(begin),
                             bytes_.begin() + static_cast<std::ptrdiff_t>(end), '\n');
  }

  std::optional<Record> next_of_lines() {
    while (at_ < bytes_.size()) {
      const size_t begin = at_, end = std::min(bytes_.find('\n', at_), bytes_.size());
      at_ = std::min(end + 1, bytes_.size());
      line_ = next_line_++;
      if (!is_blank_line(bytes_.substr(begin, end - begin))) return Record{begin, end - begin};
    }
    return std::nullopt;
  }

  [[noreturn]] void fail(std::string_view reason) const {
    throw FormatError(path_, fmt::format("line {}", next_line_), reason);
  }

  size_t behind_spaces(size_t from) const {
    return std::min(bytes_.find_first_not_of(kSpaces, from), bytes_.size());
  }

  // The first place from `at` on, outside of strings, where `is_end` holds of the character and of
  // the brackets that are open before it; the size of all where there is none.
  template <typename IsEnd>
  size_t find_outside_strings(size_t at, const IsEnd& is_end) const {
    int64_t depth = 0;
    bool in_string = false;
    for (; at < bytes_.size(); ++at) {
      const char c = bytes_[at];
      if (in_string) {
        if (c == '\\') ++at;
        if (c == '"') in_string = false;
        continue;
      }
      if (is_end(c, depth)) return at;
      if (c == '"') in_string = true;
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') --depth;
    }
    return bytes_.size();
  }

  // Where a line behind `at` begins that is an opening bracket alone, with which the record behind
  // a broken one begins.
  size_t next_bracket_alone(size_t at) const {
    while ((at = bytes_.find("\n{", at)) != bytes_.npos) {
      const std::string_view rest = bytes_.substr(at + 2);
      if (is_blank_line(rest.substr(0, rest.find('\n')))) return at + 1;
      ++at;
    }
    return bytes_.size();
  }

  std::optional<Record> next_of_objects() {
    const size_t begin = behind_spaces(at_);
    count_lines(at_, begin);
    at_ = begin;
    line_ = next_line_;
    if (begin == bytes_.size()) return std::nullopt;
    const size_t last =
        find_outside_strings(begin, [](char c, int64_t depth) { return c == '}' && depth <= 1; });
    const size_t end = last < bytes_.size() ? last + 1 : next_bracket_alone(begin);
    count_lines(begin, end);
    at_ = end;
    return Record{begin, end - begin};
  }

  std::optional<Record> next_of_array() {
    if (is_over_) return std::nullopt;
    const size_t begin = behind_spaces(at_);
    count_lines(at_, begin);
    at_ = begin;
    line_ = next_line_;
    // At the comma behind it, or the bracket of the array.
    const size_t end = find_outside_strings(
        begin, [](char c, int64_t depth) { return depth == 0 && (c == ',' || c == ']'); });
    if (end >= bytes_.size()) fail("expected the end of an array of records, got none");
    if (bytes_[end] == ']') {
      const size_t rest = behind_spaces(end + 1);
      if (rest < bytes_.size()) {
        count_lines(begin, rest);
        fail("expected nothing behind an array of records, got more");
      }
      is_over_ = true;
      if (begin == end && is_first_) return std::nullopt;
    }
    if (begin == end) fail("expected a record, got none between two commas");
    is_first_ = false;
    count_lines(begin, end);
    at_ = end + 1;
    return Record{begin, end - begin};
  }

  std::string_view bytes_;
  DocumentForm form_;
  const std::filesystem::path& path_;
  size_t at_ = 0;
  int64_t line_ = 0, next_line_ = 1;
  bool is_first_ = true, is_over_ = false;
};

}  // namespace

void with_place(const std::filesystem::path& path, std::string_view where,
                const std::function<void()>& read) {
  try {
    read();
  } catch (const FormatError& e) {
    std::string_view reason = e.what();
    const std::string before = path.string() + ": ";
    if (reason.starts_with(before)) reason.remove_prefix(before.size());
    throw FormatError(path, where, reason);
  }
}

json parse_json_line(std::string_view line, const std::filesystem::path& path,
                     std::string_view where) {
  json value;
  with_place(path, where,
             [&] { value = io::parse_json(line, path, {.non_finite_is_null = true}); });
  return value;
}

Document parse_document(std::string_view record, const std::filesystem::path& path,
                        std::string_view where) {
  constexpr const char* kExpected =
      "expected messages, conversations, data, instruction and output, or text";
  const json value = parse_json_line(record, path, where);
  if (!value.is_object()) throw FormatError(path, where, kExpected);
  Document result;
  with_place(path, where, [&] {
    if (is_text_alone(value)) {
      result.text = value["text"];
      return;
    }
    for (const Reader reader : kReaders) {
      std::optional<Document> document = reader(JsonView(value, path));
      if (document && (!document->messages.empty() || !document->text.empty())) {
        result = std::move(*document);
        return;
      }
    }
    throw FormatError(path, "", kExpected);
  });
  return result;
}

bool is_blank_line(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

DocumentForm document_form(const std::filesystem::path& path, std::string_view bytes) {
  const std::string extension = lower(path.extension().string());
  if (extension != ".jsonl" && extension != ".ndjson" && extension != ".json") {
    return DocumentForm::kText;
  }
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  const size_t begin = bytes.find_first_not_of(kSpaces), end = bytes.find_last_not_of(kSpaces);
  if (begin == bytes.npos) return DocumentForm::kLines;
  if (bytes[begin] == '[' && bytes[end] == ']') return DocumentForm::kArray;
  const std::string_view behind = bytes.substr(begin + 1);
  const bool is_alone = is_blank_line(behind.substr(0, behind.find('\n')));
  return bytes[begin] == '{' && is_alone && begin < end ? DocumentForm::kObjects
                                                        : DocumentForm::kLines;
}

int64_t for_each_record(std::string_view bytes, DocumentForm form,
                        const std::filesystem::path& path, const DocumentOptions& options,
                        const std::function<void(const Record&, Document&&)>& take) {
  if (!wide_encoding(bytes).empty()) utf8_text(bytes, path);
  int64_t skipped = 0;
  Records records(bytes, form, path);
  while (const std::optional<Record> record = records.next()) {
    const std::string where = fmt::format("line {}", records.line());
    try {
      Document document = parse_document(bytes.substr(record->begin, record->size), path, where);
      if (document.messages.empty() && document.text.empty()) continue;
      if (const auto reason = options.refusal ? options.refusal(document) : std::nullopt) {
        throw FormatError(path, where, *reason);
      }
      take(*record, std::move(document));
    } catch (const FormatError&) {
      if (!options.skip_bad) throw;
      ++skipped;
    }
  }
  return skipped;
}

Documents read_documents(const std::filesystem::path& path, const DocumentOptions& options) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) throw SystemError("cannot read", path, EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  Documents result;
  const DocumentForm form = document_form(path, content);
  if (form == DocumentForm::kText) {
    const std::string_view text = utf8_text(content, path);
    if (!text.empty()) result.documents.push_back({{}, std::string(text)});
  } else {
    result.skipped =
        for_each_record(content, form, path, options, [&](const Record&, Document&& document) {
          result.documents.push_back(std::move(document));
        });
  }
  if (result.documents.empty()) {
    throw FormatError(path, "text",
                      result.skipped == 0
                          ? "expected some, found none"
                          : fmt::format("expected some, found {} broken lines", result.skipped));
  }
  return result;
}

}  // namespace schmidt::text
