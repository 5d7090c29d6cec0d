#include "schmidt/text/json_view.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {

JsonView::JsonView(const nlohmann::json& value, const std::filesystem::path& path,
                   std::string where)
    : value_(&value), path_(&path), where_(std::move(where)) {}

void JsonView::fail(std::string_view reason) const { throw FormatError(*path_, where_, reason); }

std::optional<JsonView> JsonView::find(const std::string& key) const {
  if (!value_->is_object()) fail(fmt::format("expected an object, got {}", value_->type_name()));
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonView(*found, *path_, where_.empty() ? key : where_ + "." + key);
}

JsonView JsonView::at(const std::string& key) const {
  const std::optional<JsonView> found = find(key);
  if (!found) fail(fmt::format("expected a key \"{}\", got none", key));
  return *found;
}

std::vector<JsonView> JsonView::items() const {
  if (!value_->is_array()) fail(fmt::format("expected an array, got {}", value_->type_name()));
  std::vector<JsonView> items;
  items.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    items.emplace_back((*value_)[i], *path_, fmt::format("{}[{}]", where_, i));
  }
  return items;
}

const std::string& JsonView::string() const {
  if (!value_->is_string()) fail(fmt::format("expected a string, got {}", value_->type_name()));
  return value_->get_ref<const std::string&>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) fail(fmt::format("expected a boolean, got {}", value_->type_name()));
  return value_->get<bool>();
}

int64_t JsonView::integer() const {
  // Parsed numbers are unsigned, numbers made in this program may be either.
  const bool is_unsigned = value_->is_number_unsigned();
  const bool fits = is_unsigned ? value_->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                                : value_->is_number_integer() && value_->get<int64_t>() >= 0;
  if (!fits) {
    fail(fmt::format("expected an integer of 0 or more, got {}", value_->dump().substr(0, 40)));
  }
  return value_->get<int64_t>();
}

bool JsonView::boolean_or(const std::string& key, bool fallback) const {
  const std::optional<JsonView> found = find(key);
  return found ? found->boolean() : fallback;
}

std::string JsonView::string_or(const std::string& key, const std::string& fallback) const {
  const std::optional<JsonView> found = find(key);
  return found ? found->string() : fallback;
}

void JsonView::fail_unsupported(std::string_view what) const {
  fail(fmt::format("the {} \"{}\" is not supported", what, string()));
}

}  // namespace schmidt::text
