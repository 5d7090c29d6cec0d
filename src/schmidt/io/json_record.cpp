#include "schmidt/io/json_record.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

std::optional<int64_t> integer_of(const json& value, int64_t low, int64_t high) {
  if (!value.is_number_integer()) return {};
  // The sign decides which of the two may be asked for without overflow.
  if (value.is_number_unsigned() && std::cmp_greater(value.get<uint64_t>(), high)) return {};
  const auto number = value.get<int64_t>();
  return number >= low && number <= high ? std::optional(number) : std::nullopt;
}

}  // namespace

JsonRecord::JsonRecord(const json& object, std::string where, std::filesystem::path path)
    : object_(&object), where_(std::move(where)), path_(std::move(path)) {
  if (!object.is_object()) {
    throw FormatError(path_, where_,
                      fmt::format("expected an object, found {}", object.type_name()));
  }
}

std::string JsonRecord::text(const char* key) const {
  const json& value = at(key);
  if (!value.is_string()) fail(key, fmt::format("expected text, found {}", value.type_name()));
  return value.get<std::string>();
}

std::optional<std::string> JsonRecord::optional_text(const char* key) const {
  return object_->contains(key) ? std::optional(text(key)) : std::nullopt;
}

std::vector<std::string> JsonRecord::texts(const char* key) const {
  const json& value = at(key);
  std::vector<std::string> all;
  if (!value.is_array()) fail(key, "expected an array of texts");
  for (const json& item : value) {
    if (!item.is_string()) fail(key, "expected an array of texts");
    all.push_back(item.get<std::string>());
  }
  return all;
}

int64_t JsonRecord::integer(const char* key, int64_t low, int64_t high) const {
  const std::optional<int64_t> value = integer_of(at(key), low, high);
  if (!value) fail(key, fmt::format("expected an integer in [{}, {}]", low, high));
  return *value;
}

std::vector<int64_t> JsonRecord::integers(const char* key, int64_t low, int64_t high) const {
  const json& value = at(key);
  std::vector<int64_t> all;
  if (!value.is_array()) fail(key, "expected an array of integers");
  for (const json& item : value) {
    const std::optional<int64_t> number = integer_of(item, low, high);
    if (!number) fail(key, fmt::format("expected integers in [{}, {}]", low, high));
    all.push_back(*number);
  }
  return all;
}

std::vector<int64_t> JsonRecord::sizes(const char* key) const {
  constexpr int64_t kMaxSize = int64_t{1} << 28;
  const auto found = object_->find(key);
  if (found == object_->end() || !found->is_array()) fail(key, "expected an array of sizes");
  std::vector<int64_t> all;
  for (const json& item : *found) {
    const std::optional<int64_t> size = integer_of(item, 1, kMaxSize);
    if (!size) fail(key, fmt::format("expected sizes in [1, {}]", kMaxSize));
    all.push_back(*size);
  }
  return all;
}

bool JsonRecord::flag(const char* key) const {
  const json& value = at(key);
  if (!value.is_boolean()) {
    fail(key, fmt::format("expected true or false, found {}", value.type_name()));
  }
  return value.get<bool>();
}

double JsonRecord::number(const char* key, double low, double high) const {
  const json& value = at(key);
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (!std::isfinite(number) || number < low || number > high) {
    fail(key, fmt::format("expected a number in [{}, {}]", low, high));
  }
  return number;
}

const json& JsonRecord::object(const char* key) const {
  const json& value = at(key);
  if (!value.is_object()) fail(key, fmt::format("expected an object, found {}", value.type_name()));
  return value;
}

JsonRecord JsonRecord::record(const char* key) const { return {at(key), place(key), path_}; }

std::vector<JsonRecord> JsonRecord::records(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end() || !found->is_array()) fail(key, "expected an array of objects");
  std::vector<JsonRecord> all;
  for (const json& item : *found) {
    all.emplace_back(item, fmt::format("{}.{}", place(key), all.size()), path_);
  }
  return all;
}

bool JsonRecord::has(const char* key) const {
  const auto found = object_->find(key);
  return found != object_->end() && !found->is_null();
}

void JsonRecord::fail(const char* key, const std::string& reason) const {
  throw FormatError(path_, place(key), reason);
}

const json& JsonRecord::at(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) fail(key, "expected a value, found nothing");
  return *found;
}

std::string JsonRecord::place(const char* key) const {
  return where_.empty() ? key : fmt::format("{}.{}", where_, key);
}

}  // namespace schmidt::io
