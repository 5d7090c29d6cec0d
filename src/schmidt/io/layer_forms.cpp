#include "schmidt/io/layer_forms.h"

#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

constexpr const char* kConfig = "compression_config";

json& object_in(json& parent, const char* key, const std::string& place,
                const std::filesystem::path& folder) {
  json& value = parent[key];
  if (value.is_null()) value = json::object();
  if (!value.is_object()) {
    throw FormatError(folder / "config.json", place,
                      fmt::format("expected an object, found {}", value.type_name()));
  }
  return value;
}

}  // namespace

bool is_described(const json& config, const std::string& layer) {
  return config.contains(json::json_pointer() / kConfig / "layers" / layer / "kind");
}

void describe_layer(json& config, const std::string& layer, json form,
                    const std::filesystem::path& folder) {
  json& object = object_in(config, kConfig, kConfig, folder);
  if (!object.contains("version")) object["version"] = 1;
  object_in(object, "layers", "compression_config.layers", folder)[layer] = std::move(form);
}

}  // namespace schmidt::io
