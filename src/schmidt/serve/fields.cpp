#include "schmidt/serve/fields.h"

#include <cmath>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/serve/api_error.h"

namespace schmidt::serve {
namespace {

// A request's own value in a message: its beginning, for it may be megabytes long.
std::string shown(const nlohmann::json& value) {
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

std::string error_body(const std::string& message, const std::string& type,
                       const std::string& code) {
  const nlohmann::ordered_json error = {{"message", message}, {"type", type}, {"code", code}};
  return io::json_text(nlohmann::ordered_json{{"error", error}});
}

Fields::Fields(const nlohmann::json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw invalid_request(
        fmt::format("expected an object{}{}, got {}", where_.empty() ? " as the body" : " in ",
                    where_, shown(object)),
        "invalid_type");
  }
}

std::string Fields::place(const char* name) const {
  return where_.empty() ? name : where_ + "." + name;
}

void Fields::fail(const char* name, const std::string& expected,
                  const nlohmann::json& found) const {
  throw invalid_request(
      fmt::format("{}: expected {}, got {}", place(name), expected, shown(found)));
}

const nlohmann::json* Fields::find(const char* name) const {
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& Fields::at(const char* name) const {
  const nlohmann::json* value = find(name);
  if (value == nullptr) {
    throw invalid_request(fmt::format("{}: expected this field, found none", place(name)),
                          "missing_field");
  }
  return *value;
}

std::string Fields::text(const char* name, const std::string& fallback) const {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_string()) fail(name, "a string", *value);
  return value->get<std::string>();
}

bool Fields::flag(const char* name, bool fallback) const {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(const char* name, int64_t low, int64_t high) const {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::string expected = fmt::format("an integer in [{}, {}]", low, high);
  // Compared before it is narrowed: an unsigned number may be beyond int64.
  if (value->is_number_unsigned()) {
    const auto number = value->get<uint64_t>();
    if (std::cmp_less(number, low) || std::cmp_greater(number, high)) fail(name, expected, *value);
    return static_cast<int64_t>(number);
  }
  if (!value->is_number_integer()) fail(name, expected, *value);
  const auto number = value->get<int64_t>();
  if (number < low || number > high) fail(name, expected, *value);
  return number;
}

double Fields::number(const char* name, double fallback, double low, double high) const {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return fallback;
  const std::string expected = fmt::format("a number in [{}, {}]", low, high);
  if (!value->is_number()) fail(name, expected, *value);
  const auto number = value->get<double>();
  if (!std::isfinite(number) || number < low || number > high) fail(name, expected, *value);
  return number;
}

nlohmann::json parse_body(std::string_view body) {
  try {
    nlohmann::json value = io::parse_json(body, "body", {.max_depth = 32});
    Fields{value};
    return value;
  } catch (const FormatError& e) {
    throw invalid_request(e.what(), "invalid_json");
  }
}

std::vector<int64_t> token_ids(const nlohmann::json& list, int64_t vocabulary,
                               const std::string& where) {
  const auto fail = [&](const nlohmann::json& found) {
    throw invalid_request(fmt::format("{}: expected token ids, integers in [0, {}), got {}", where,
                                      vocabulary, shown(found)));
  };
  if (!list.is_array()) fail(list);
  std::vector<int64_t> ids;
  ids.reserve(list.size());
  for (const nlohmann::json& id : list) {
    // What is not negative is unsigned to the parser.
    if (!id.is_number_unsigned() || std::cmp_greater_equal(id.get<uint64_t>(), vocabulary)) {
      fail(id);
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace schmidt::serve
