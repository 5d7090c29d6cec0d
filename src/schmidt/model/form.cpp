#include "schmidt/model/form.h"

#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::model {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 28;

std::optional<int64_t> size_of(const json& item) {
  // The sign decides which of the two may be asked for without overflow.
  if (item.is_number_unsigned() && std::cmp_greater(item.get<uint64_t>(), kMaxSize)) return {};
  if (!item.is_number_integer()) return {};
  const auto value = item.get<int64_t>();
  return value >= 1 && value <= kMaxSize ? std::optional(value) : std::nullopt;
}

}  // namespace

Form::Form(const json& object, std::string where, std::filesystem::path path)
    : object_(&object), where_(std::move(where)), path_(std::move(path)) {
  if (!object.is_object()) {
    throw FormatError(path_, where_,
                      fmt::format("expected an object, found {}", object.type_name()));
  }
}

std::vector<int64_t> Form::sizes(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end() || !found->is_array()) fail(key, "expected an array of sizes");
  std::vector<int64_t> values;
  for (const json& item : *found) {
    const std::optional<int64_t> value = size_of(item);
    if (!value) fail(key, fmt::format("expected sizes in [1, {}]", kMaxSize));
    values.push_back(*value);
  }
  return values;
}

std::optional<std::string> Form::text(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) return std::nullopt;
  if (!found->is_string()) fail(key, fmt::format("expected text, found {}", found->type_name()));
  return found->get<std::string>();
}

std::vector<Form> Form::forms(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end() || !found->is_array()) fail(key, "expected an array of objects");
  std::vector<Form> items;
  for (const json& item : *found) {
    items.emplace_back(item, fmt::format("{}.{}.{}", where_, key, items.size()), path_);
  }
  return items;
}

void Form::fail(const char* key, const std::string& reason) const {
  throw FormatError(path_, fmt::format("{}.{}", where_, key), reason);
}

}  // namespace schmidt::model
