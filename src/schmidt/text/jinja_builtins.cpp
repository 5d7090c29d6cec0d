#include "schmidt/text/jinja_builtins.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <optional>

#include <fmt/format.h>

namespace schmidt::text::jinja {
namespace {

[[noreturn]] void refuse(const Arguments& a, std::string_view kind, std::string_view name) {
  fail(a.line, fmt::format("the {} \"{}\" with these arguments is not supported", kind, name));
}

/// Argument i, or the one of that name; null if neither is given.
const Value* argument(const Arguments& a, size_t i, std::string_view name = {}) {
  if (i < a.values.size()) return &a.values[i];
  for (const auto& [key, value] : a.named) {
    if (key == name) return &value;
  }
  return nullptr;
}

const std::string& string_argument(const Arguments& a, size_t i, std::string_view name = {}) {
  const Value* value = argument(a, i, name);
  if (value == nullptr || value->string() == nullptr) {
    fail(a.line, fmt::format("expected a string as argument {}, got {}", i + 1,
                             value == nullptr ? "none" : kind_of(*value)));
  }
  return *value->string();
}

int64_t integer_argument(const Arguments& a, size_t i, int64_t otherwise,
                         std::string_view name = {}) {
  const Value* value = argument(a, i, name);
  int64_t number = otherwise;
  if (value != nullptr && !value->integer(number)) {
    fail(a.line, fmt::format("expected an integer as argument {}, got {}", i + 1, kind_of(*value)));
  }
  return number;
}

// Letters of other alphabets have rules of their own.
const std::string& ascii(const std::string& text, int line) {
  if (std::any_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; })) {
    fail(line, "upper and lower case of other letters than A to Z is not supported");
  }
  return text;
}

std::string upper(std::string text) {
  for (char& c : text) c = 'a' <= c && c <= 'z' ? static_cast<char>(c - 0x20) : c;
  return text;
}

std::string lower(std::string text) {
  for (char& c : text) c = 'A' <= c && c <= 'Z' ? static_cast<char>(c + 0x20) : c;
  return text;
}

std::string capitalized(std::string text) {
  text = lower(std::move(text));
  return upper(text.substr(0, 1)) + (text.empty() ? "" : text.substr(1));
}

// Python's str.title: a capital behind everything that is no letter.
std::string titled(std::string text) {
  bool is_inside = false;
  for (char& c : text) {
    const bool is_letter = 'a' <= (c | 0x20) && (c | 0x20) <= 'z';
    if (is_letter) c = static_cast<char>(is_inside ? c | 0x20 : c & ~0x20);
    is_inside = is_letter;
  }
  return text;
}

Value replaced(const std::string& text, const std::string& old, const std::string& by,
               int64_t count, const Arguments& a) {
  if (old.empty()) refuse(a, "method", "replace");
  std::string result;
  size_t at = 0;
  for (size_t found; count != 0 && (found = text.find(old, at)) != std::string::npos; --count) {
    result += text.substr(at, found - at) + by;
    if (result.size() > kMostBytes) fail(a.line, "expected a shorter text");
    at = found + old.size();
  }
  return result + text.substr(at);
}

Value split(const std::string& text, const Arguments& a) {
  List parts;
  const Value* separator = argument(a, 0, "sep");
  int64_t most = integer_argument(a, 1, -1, "maxsplit");
  if (separator == nullptr || separator->is<None>()) {
    if (most != -1) refuse(a, "method", "split");
    std::string word;
    for (const std::string& c : characters(text)) {
      if (!strip(c).empty()) {
        word += c;
      } else if (!word.empty()) {
        parts.emplace_back(std::exchange(word, {}));
      }
    }
    if (!word.empty()) parts.emplace_back(std::move(word));
    return parts;
  }
  const std::string& by = string_argument(a, 0, "sep");
  if (by.empty()) fail(a.line, "expected a separator to split by, got an empty string");
  size_t at = 0;
  for (size_t found; most != 0 && (found = text.find(by, at)) != std::string::npos; --most) {
    parts.emplace_back(text.substr(at, found - at));
    at = found + by.size();
  }
  parts.emplace_back(text.substr(at));
  return parts;
}

// startswith and endswith take one string or several.
bool has_end(const std::string& text, const Arguments& a, bool at_start) {
  if (a.values.size() != 1) refuse(a, "method", at_start ? "startswith" : "endswith");
  const List ends = a.values[0].list() != nullptr ? *a.values[0].list() : List{a.values[0]};
  return std::any_of(ends.begin(), ends.end(), [&](const Value& end) {
    if (end.string() == nullptr) fail(a.line, "expected a string to compare the end with");
    return at_start ? text.starts_with(*end.string()) : text.ends_with(*end.string());
  });
}

std::string strip_ends(const std::string& text, const Arguments& a, Ends ends) {
  const Value* set = argument(a, 0, "chars");
  if (set == nullptr || set->is<None>()) return strip(text, ends);
  return strip(text, string_argument(a, 0, "chars"), ends);
}

std::string joined(const Value& value, const std::string& separator, int line) {
  std::string text;
  bool is_first = true;
  for (const Value& item : elements(value, line)) {
    text += (std::exchange(is_first, false) ? "" : separator) + to_text(item, line);
    if (text.size() > kMostBytes) fail(line, "expected a shorter text");
  }
  return text;
}

List pairs(const Dict& dict) {
  List items;
  for (const auto& [key, value] : dict) items.emplace_back(List{Value(key), value});
  return items;
}

Value length(const Value& value, const Arguments& a) {
  if (value.string() != nullptr) {
    return std::count_if(value.string()->begin(), value.string()->end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  }
  if (value.is<Undefined>() || value.list() != nullptr || value.dict() != nullptr) {
    return static_cast<int64_t>(elements(value, a.line).size());
  }
  fail(a.line, fmt::format("expected a value with a length, got {}", kind_of(value)));
}

Value member(const Value& value, const std::string& name) {
  const Value* found = value.dict() != nullptr ? find(*value.dict(), name) : nullptr;
  return found != nullptr ? *found : Value(Undefined{name});
}

// selectattr("name", "test", arguments..) and rejectattr.
Value chosen(const Value& value, const Arguments& a, bool wanted) {
  const std::string& name = string_argument(a, 0);
  Arguments test{.line = a.line};
  if (a.values.size() > 2) test.values.assign(a.values.begin() + 2, a.values.end());
  List result;
  for (const Value& item : elements(value, a.line)) {
    const Value of = member(item, name);
    const bool holds =
        a.values.size() > 1 ? apply_test(string_argument(a, 1), of, test) : is_true(of);
    if (holds == wanted) result.push_back(item);
  }
  return result;
}

Value mapped(const Value& value, const Arguments& a) {
  const Value* name = argument(a, a.values.size(), "attribute");
  List result;
  for (const Value& item : elements(value, a.line)) {
    if (name != nullptr && name->string() != nullptr && a.values.empty()) {
      result.push_back(member(item, *name->string()));
    } else if (a.values.size() == 1 && a.named.empty()) {
      result.push_back(apply_filter(string_argument(a, 0), item, {{}, {}, a.line}));
    } else {
      refuse(a, "filter", "map");
    }
  }
  return result;
}

Value defaulted(const Value& value, const Arguments& a) {
  const Value* boolean = argument(a, 1, "boolean");
  const bool counts =
      boolean != nullptr && is_true(*boolean) ? is_true(value) : !value.is<Undefined>();
  if (counts) return value;
  const Value* other = argument(a, 0, "default_value");
  return other != nullptr ? *other : Value("");
}

Value to_integer(const Value& value, const Arguments& a) {
  int64_t number = 0;
  if (value.integer(number)) return number;
  if (value.string() == nullptr) refuse(a, "filter", "int");
  const std::string text = strip(*value.string());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) refuse(a, "filter", "int");
  return number;
}

Value reversed(const Value& value, const Arguments& a) {
  List items = elements(value, a.line);
  std::reverse(items.begin(), items.end());
  return value.string() != nullptr ? Value(joined(items, "", a.line)) : Value(items);
}

template <typename Function>
struct Named {
  std::string_view name;
  size_t most;  // arguments
  Function function;
};

template <typename Table>
const auto& found(const Table& table, std::string_view kind, std::string_view name,
                  const Arguments& a) {
  const auto entry = std::find_if(std::begin(table), std::end(table),
                                  [&](const auto& e) { return e.name == name; });
  if (entry == std::end(table))
    fail(a.line, fmt::format("the {} \"{}\" is not supported", kind, name));
  if (a.values.size() + a.named.size() > entry->most) refuse(a, kind, name);
  return *entry;
}

using Filter = Value (*)(const Value&, const Arguments&);
constexpr Named<Filter> kFilters[] = {
    {"trim", 1,
     [](const Value& v, const Arguments& a) -> Value {
       return strip_ends(to_text(v, a.line), a, {});
     }},
    {"length", 0, length},
    {"count", 0, length},
    {"upper", 0,
     [](const Value& v, const Arguments& a) -> Value {
       return upper(ascii(to_text(v, a.line), a.line));
     }},
    {"lower", 0,
     [](const Value& v, const Arguments& a) -> Value {
       return lower(ascii(to_text(v, a.line), a.line));
     }},
    {"capitalize", 0,
     [](const Value& v, const Arguments& a) -> Value {
       return capitalized(ascii(to_text(v, a.line), a.line));
     }},
    {"first", 0,
     [](const Value& v, const Arguments& a) -> Value {
       const List items = elements(v, a.line);
       return items.empty() ? Value() : items.front();
     }},
    {"last", 0,
     [](const Value& v, const Arguments& a) -> Value {
       const List items = elements(v, a.line);
       return items.empty() ? Value() : items.back();
     }},
    {"join", 1,
     [](const Value& v, const Arguments& a) -> Value {
       return joined(v, argument(a, 0, "d") == nullptr ? "" : string_argument(a, 0, "d"), a.line);
     }},
    {"replace", 2,
     [](const Value& v, const Arguments& a) -> Value {
       return replaced(to_text(v, a.line), string_argument(a, 0), string_argument(a, 1), -1, a);
     }},
    {"default", 2, defaulted},
    {"d", 2, defaulted},
    {"string", 0, [](const Value& v, const Arguments& a) -> Value { return to_text(v, a.line); }},
    {"list", 0, [](const Value& v, const Arguments& a) -> Value { return elements(v, a.line); }},
    {"int", 0, to_integer},
    {"tojson", 0, [](const Value& v, const Arguments& a) -> Value { return to_json(v, a.line); }},
    {"reverse", 0, reversed},
    {"items", 0,
     [](const Value& v, const Arguments& a) -> Value {
       if (v.is<Undefined>()) return List{};
       if (v.dict() == nullptr) refuse(a, "filter", "items");
       return pairs(*v.dict());
     }},
    {"map", 1, mapped},
    {"selectattr", 8,
     [](const Value& v, const Arguments& a) -> Value { return chosen(v, a, true); }},
    {"rejectattr", 8,
     [](const Value& v, const Arguments& a) -> Value { return chosen(v, a, false); }},
};

bool is_sequence(const Value& v) {
  return v.is<Undefined>() || v.string() != nullptr || v.list() != nullptr || v.dict() != nullptr;
}

bool is_equal(const Value& v, const Arguments& a) {
  if (a.values.size() != 1) refuse(a, "test", "equalto");
  return equal(v, a.values[0]);
}

bool is_divisible(const Value& v, const Arguments& a, int64_t by, int64_t rest) {
  int64_t number = 0;
  if (!v.integer(number) || by == 0)
    fail(a.line, "expected an integer and another to divide it by");
  return by == -1 || (number % by + by) % by == rest;
}

using Test = bool (*)(const Value&, const Arguments&);
constexpr Named<Test> kTests[] = {
    {"defined", 0, [](const Value& v, const Arguments&) { return !v.is<Undefined>(); }},
    {"undefined", 0, [](const Value& v, const Arguments&) { return v.is<Undefined>(); }},
    {"none", 0, [](const Value& v, const Arguments&) { return v.is<None>(); }},
    {"string", 0, [](const Value& v, const Arguments&) { return v.string() != nullptr; }},
    {"mapping", 0, [](const Value& v, const Arguments&) { return v.dict() != nullptr; }},
    {"iterable", 0, [](const Value& v, const Arguments&) { return is_sequence(v); }},
    {"sequence", 0, [](const Value& v, const Arguments&) { return is_sequence(v); }},
    {"boolean", 0, [](const Value& v, const Arguments&) { return v.is<bool>(); }},
    {"true", 0, [](const Value& v, const Arguments&) { return v.is<bool>() && is_true(v); }},
    {"false", 0, [](const Value& v, const Arguments&) { return v.is<bool>() && !is_true(v); }},
    {"integer", 0, [](const Value& v, const Arguments&) { return v.is<int64_t>(); }},
    {"number", 0,
     [](const Value& v, const Arguments&) {
       int64_t unused = 0;
       return v.integer(unused);
     }},
    {"callable", 0, [](const Value& v, const Arguments&) { return v.is<Function>(); }},
    {"odd", 0, [](const Value& v, const Arguments& a) { return is_divisible(v, a, 2, 1); }},
    {"even", 0, [](const Value& v, const Arguments& a) { return is_divisible(v, a, 2, 0); }},
    {"divisibleby", 1,
     [](const Value& v, const Arguments& a) {
       return is_divisible(v, a, integer_argument(a, 0, 0), 0);
     }},
    {"equalto", 1, is_equal},
    {"eq", 1, is_equal},
    {"==", 1, is_equal},
    {"ne", 1, [](const Value& v, const Arguments& a) { return !is_equal(v, a); }},
    {"!=", 1, [](const Value& v, const Arguments& a) { return !is_equal(v, a); }},
    {"in", 1,
     [](const Value& v, const Arguments& a) {
       if (a.values.size() != 1) refuse(a, "test", "in");
       return contains(a.values[0], v, a.line);
     }},
};

using Method = Value (*)(const std::string&, const Arguments&);
constexpr Named<Method> kStringMethods[] = {
    {"strip", 1,
     [](const std::string& s, const Arguments& a) -> Value { return strip_ends(s, a, {}); }},
    {"lstrip", 1,
     [](const std::string& s, const Arguments& a) -> Value {
       return strip_ends(s, a, {.right = false});
     }},
    {"rstrip", 1,
     [](const std::string& s, const Arguments& a) -> Value {
       return strip_ends(s, a, {.left = false});
     }},
    {"split", 2, split},
    {"startswith", 1,
     [](const std::string& s, const Arguments& a) -> Value { return has_end(s, a, true); }},
    {"endswith", 1,
     [](const std::string& s, const Arguments& a) -> Value { return has_end(s, a, false); }},
    {"upper", 0,
     [](const std::string& s, const Arguments& a) -> Value { return upper(ascii(s, a.line)); }},
    {"lower", 0,
     [](const std::string& s, const Arguments& a) -> Value { return lower(ascii(s, a.line)); }},
    {"capitalize", 0,
     [](const std::string& s, const Arguments& a) -> Value {
       return capitalized(ascii(s, a.line));
     }},
    {"title", 0,
     [](const std::string& s, const Arguments& a) -> Value { return titled(ascii(s, a.line)); }},
    {"replace", 3,
     [](const std::string& s, const Arguments& a) -> Value {
       return replaced(s, string_argument(a, 0), string_argument(a, 1), integer_argument(a, 2, -1),
                       a);
     }},
    {"join", 1,
     [](const std::string& s, const Arguments& a) -> Value {
       if (a.values.size() != 1) refuse(a, "method", "join");
       return joined(a.values[0], s, a.line);
     }},
};

}  // namespace

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments) {
  return found(kFilters, "filter", name, arguments).function(value, arguments);
}

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments) {
  return found(kTests, "test", name, arguments).function(value, arguments);
}

Value call_method(const Value& object, std::string_view name, const Arguments& a) {
  if (object.string() != nullptr) {
    return found(kStringMethods, "method", name, a).function(*object.string(), a);
  }
  if (object.dict() == nullptr) {
    fail(a.line, fmt::format("the method \"{}\" of {} is not supported", name, kind_of(object)));
  }
  const Dict& dict = *object.dict();
  if (name == "get" && a.named.empty() && (a.values.size() == 1 || a.values.size() == 2)) {
    const Value* value =
        a.values[0].string() != nullptr ? find(dict, *a.values[0].string()) : nullptr;
    if (value != nullptr) return *value;
    return a.values.size() == 2 ? a.values[1] : Value(None{});
  }
  if (!a.values.empty() || !a.named.empty()) refuse(a, "method", name);
  if (name == "items") return pairs(dict);
  if (name == "keys") return elements(object, a.line);
  if (name == "values") {
    List values;
    for (const auto& [key, value] : dict) values.push_back(value);
    return values;
  }
  fail(a.line, fmt::format("the method \"{}\" of a dictionary is not supported", name));
}

bool contains(const Value& whole, const Value& needle, int line) {
  if (whole.string() != nullptr) {
    if (needle.string() == nullptr) {
      fail(line, fmt::format("expected a string to look for in a string, got {}", kind_of(needle)));
    }
    return whole.string()->find(*needle.string()) != std::string::npos;
  }
  if (whole.dict() != nullptr) {
    return needle.string() != nullptr && find(*whole.dict(), *needle.string()) != nullptr;
  }
  const List items = elements(whole, line);
  return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(v, needle); });
}

bool in_order(const Value& a, std::string_view op, const Value& b, int line) {
  int order = 0;
  if (int64_t x = 0, y = 0; a.integer(x) && b.integer(y)) {
    order = x < y ? -1 : x > y ? 1 : 0;
  } else if (a.string() != nullptr && b.string() != nullptr) {
    order = a.string()->compare(*b.string());
  } else {
    fail(line, fmt::format("expected two strings or two integers to compare, got {} and {}",
                           kind_of(a), kind_of(b)));
  }
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

}  // namespace schmidt::text::jinja
