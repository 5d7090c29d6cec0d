#include "schmidt/text/jinja_value.h"

#include <algorithm>
#include <array>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text::jinja {
namespace {

/// `text` without the characters at its ends that `drops` names.
template <typename Drops>
std::string stripped(std::string_view text, Ends ends, const Drops& drops) {
  size_t begin = 0, end = text.size();
  while (ends.left && begin < end && drops(code_point_at(text, begin).value)) {
    begin += code_point_at(text, begin).length;
  }
  while (ends.right && end > begin && drops(code_point_before(text, end).value)) {
    end -= code_point_before(text, end).length;
  }
  return std::string(text.substr(begin, end - begin));
}

const Value& value_of(const Value& element) { return element; }
const Value& value_of(const std::pair<std::string, Value>& element) { return element.second; }

template <typename Elements>
std::shared_ptr<const Held<Elements>> held(Elements elements) {
  Held<Elements> result{std::move(elements)};
  for (const auto& element : result.elements) {
    result.depth = std::max(result.depth, 1 + value_of(element).depth());
    result.size += value_of(element).size();
  }
  TORCH_CHECK_VALUE(result.depth <= kMostDepth && result.size <= kMostElements,
                    "[chat_template] expected lists of at most ", kMostElements, " elements in ",
                    kMostDepth, " levels and without namespaces, got another");
  return std::make_shared<const Held<Elements>>(std::move(result));
}

}  // namespace

Value::Value(List v) : value_(held(std::move(v))) {}
Value::Value(Dict v) : value_(held(std::move(v))) {}

void fail(int line, std::string_view reason) {
  std::string one_line(reason.substr(0, 500));
  std::replace_if(
      one_line.begin(), one_line.end(), [](char c) { return 0 <= c && c < ' '; }, ' ');
  TORCH_CHECK_VALUE(false, "[chat_template] line ", line, ": ", one_line);
}

const List* Value::list() const {
  const auto* list = get<std::shared_ptr<const Held<List>>>();
  return list != nullptr ? &(*list)->elements : nullptr;
}

const Dict* Value::dict() const {
  const auto* dict = get<std::shared_ptr<const Held<Dict>>>();
  return dict != nullptr ? &(*dict)->elements : nullptr;
}

int64_t Value::depth() const {
  if (is<Namespace>()) return kMostDepth + 1;
  if (const auto* v = get<std::shared_ptr<const Held<List>>>()) return (*v)->depth;
  if (const auto* v = get<std::shared_ptr<const Held<Dict>>>()) return (*v)->depth;
  return 0;
}

int64_t Value::size() const {
  if (const auto* v = get<std::shared_ptr<const Held<List>>>()) return (*v)->size;
  if (const auto* v = get<std::shared_ptr<const Held<Dict>>>()) return (*v)->size;
  return 1;
}

bool Value::integer(int64_t& result) const {
  if (const auto* v = get<int64_t>()) return result = *v, true;
  if (const auto* v = get<bool>()) return result = *v ? 1 : 0, true;
  return false;
}

std::string_view kind_of(const Value& value) {
  constexpr std::array<std::string_view, 9> kKinds = {"undefined",    "none",        "a boolean",
                                                      "an integer",   "a string",    "a list",
                                                      "a dictionary", "a namespace", "a function"};
  size_t kind = 0;
  if (value.is<None>()) kind = 1;
  if (value.is<bool>()) kind = 2;
  if (value.is<int64_t>()) kind = 3;
  if (value.string() != nullptr) kind = 4;
  if (value.list() != nullptr) kind = 5;
  if (value.dict() != nullptr) kind = 6;
  if (value.is<Namespace>()) kind = 7;
  if (value.is<Function>()) kind = 8;
  return kKinds[kind];
}

bool is_true(const Value& value) {
  if (int64_t number = 0; value.integer(number)) return number != 0;
  if (value.string() != nullptr) return !value.string()->empty();
  if (value.list() != nullptr) return !value.list()->empty();
  if (value.dict() != nullptr) return !value.dict()->empty();
  return value.is<Namespace>() || value.is<Function>();
}

bool equal(const Value& a, const Value& b) {
  if (int64_t x = 0, y = 0; a.integer(x) && b.integer(y)) return x == y;
  if (a.string() != nullptr && b.string() != nullptr) return *a.string() == *b.string();
  if (a.is<None>() || a.is<Undefined>()) {
    return a.is<None>() ? b.is<None>() : b.is<Undefined>();
  }
  if (a.list() != nullptr && b.list() != nullptr) {
    return std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(),
                      equal);
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    return a.dict()->size() == b.dict()->size() &&
           std::all_of(a.dict()->begin(), a.dict()->end(), [&](const auto& entry) {
             const Value* other = find(*b.dict(), entry.first);
             return other != nullptr && equal(entry.second, *other);
           });
  }
  return false;
}

const Value* find(const Dict& dict, std::string_view key) {
  const auto found =
      std::find_if(dict.begin(), dict.end(), [&](const auto& e) { return e.first == key; });
  return found == dict.end() ? nullptr : &found->second;
}

std::string to_text(const Value& value, int line) {
  if (value.string() != nullptr) return *value.string();
  if (value.is<Undefined>()) return {};
  if (value.is<None>()) return "None";
  if (const auto* v = value.get<bool>()) return *v ? "True" : "False";
  if (const auto* v = value.get<int64_t>()) return std::to_string(*v);
  fail(line, fmt::format("expected text to write, got {}", kind_of(value)));
}

List elements(const Value& value, int line) {
  if (value.list() != nullptr) return *value.list();
  List items;
  if (value.dict() != nullptr) {
    for (const auto& [key, unused] : *value.dict()) items.emplace_back(key);
    return items;
  }
  if (value.string() != nullptr) {
    if (std::cmp_greater(value.string()->size(), kMostElements)) {
      fail(line, "expected a shorter text to go through");
    }
    for (std::string& c : characters(*value.string())) items.emplace_back(std::move(c));
    return items;
  }
  if (value.is<Undefined>()) return items;
  fail(line, fmt::format("expected a list, got {}", kind_of(value)));
}

std::string to_json(const Value& value, int line) {
  if (value.string() != nullptr) return nlohmann::json(*value.string()).dump();
  if (value.is<None>()) return "null";
  if (const auto* v = value.get<bool>()) return *v ? "true" : "false";
  if (const auto* v = value.get<int64_t>()) return std::to_string(*v);
  std::string text;
  if (value.list() != nullptr) {
    for (const Value& item : *value.list()) {
      text += (text.empty() ? "" : ", ") + to_json(item, line);
      if (text.size() > kMostBytes) fail(line, "expected a shorter text");
    }
    return "[" + text + "]";
  }
  if (value.dict() != nullptr) {
    for (const auto& [key, item] : *value.dict()) {
      text += (text.empty() ? "" : ", ") + nlohmann::json(key).dump() + ": " + to_json(item, line);
    }
    return "{" + text + "}";
  }
  fail(line, fmt::format("expected a value that JSON has, got {}", kind_of(value)));
}

std::string strip(std::string_view text, Ends ends) {
  // White_Space and four separators of ASCII.
  return stripped(text, ends,
                  [](char32_t c) { return is_white_space(c) || (0x1C <= c && c <= 0x1F); });
}

std::string strip(std::string_view text, std::string_view set, Ends ends) {
  return stripped(text, ends, [&](char32_t c) {
    for (size_t i = 0; i < set.size(); i += code_point_at(set, i).length) {
      if (code_point_at(set, i).value == c) return true;
    }
    return false;
  });
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> result;
  for (size_t i = 0; i < text.size();) {
    const auto length = static_cast<size_t>(code_point_at(text, i).length);
    result.emplace_back(text.substr(i, length));
    i += length;
  }
  return result;
}

}  // namespace schmidt::text::jinja
