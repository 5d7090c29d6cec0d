#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// The part of the template language Jinja that chat templates use. It computes with
/// strings, integers, lists and dictionaries and reaches nothing outside but the date.
namespace schmidt::text::jinja {

class Value;
struct Statement;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  ///< in order of insertion

// What no conversation needs, so that no template takes all memory or the whole stack.
constexpr size_t kMostBytes = 100'000'000;    ///< of a string
constexpr int64_t kMostElements = 2'000'000;  ///< of a list, those of its elements counted
constexpr int64_t kMostDepth = 100;           ///< of lists in lists

/// What an absent variable, key or index gives: empty text, false.
struct Undefined {
  std::string name;
};
struct None {};
/// The one kind of value that changes: `{% set ns.found = true %}`.
struct Namespace {
  std::shared_ptr<Dict> members;
};
/// A global function by its name, or a macro of the template.
struct Function {
  std::string name;
  const Statement* macro = nullptr;
};

/// The elements of a list or a dictionary with how deep and how many they are.
template <typename Elements>
struct Held {
  Elements elements;
  int64_t depth = 1, size = 1;
};

/// A value as Python has it, immutable except for a namespace, which no other value may hold.
class Value {
 public:
  using Variant =
      std::variant<Undefined, None, bool, int64_t, std::string, std::shared_ptr<const Held<List>>,
                   std::shared_ptr<const Held<Dict>>, Namespace, Function>;

  Value() = default;
  Value(Undefined v) : value_(std::move(v)) {}
  Value(None) : value_(None{}) {}
  Value(bool v) : value_(v) {}
  Value(int64_t v) : value_(v) {}
  Value(std::string v) : value_(std::move(v)) {}
  Value(std::string_view v) : value_(std::string(v)) {}
  Value(const char* v) : value_(std::string(v)) {}
  Value(List v);  ///< throws c10::ValueError beyond the limits above, as that of Dict does
  Value(Dict v);
  Value(Namespace v) : value_(std::move(v)) {}
  Value(Function v) : value_(std::move(v)) {}

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&value_);
  }
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(value_);
  }
  const List* list() const;
  const Dict* dict() const;  ///< a dictionary's, not a namespace's
  const std::string* string() const { return get<std::string>(); }

  int64_t depth() const;  ///< 0 but for lists and dictionaries; beyond the limit of a namespace
  int64_t size() const;   ///< 1 but for lists and dictionaries

  /// A whole number, which True and False are, too; false if it is none.
  bool integer(int64_t& result) const;

 private:
  Variant value_;
};

/// Stops at a place of the template that cannot be rendered. Throws c10::ValueError with
/// the line of the template.
[[noreturn]] void fail(int line, std::string_view reason);

std::string_view kind_of(const Value& value);  ///< for messages: "a string"
bool is_true(const Value& value);
bool equal(const Value& a, const Value& b);
const Value* find(const Dict& dict, std::string_view key);

/// What `{{ value }}` writes. Throws c10::ValueError for lists and dictionaries, which
/// Python would write in its own spelling.
std::string to_text(const Value& value, int line);

/// What a loop goes through: elements, keys, characters. Throws c10::ValueError.
List elements(const Value& value, int line);

/// The JSON of Python's json.dumps without ASCII escapes. Throws c10::ValueError.
std::string to_json(const Value& value, int line);

// Python's str.strip and its kin: what Python calls white space, or the characters of `set`.
struct Ends {
  bool left = true, right = true;
};
std::string strip(std::string_view text, Ends ends = {});
std::string strip(std::string_view text, std::string_view set, Ends ends = {});

/// The characters of valid UTF-8.
std::vector<std::string> characters(std::string_view text);

}  // namespace schmidt::text::jinja
