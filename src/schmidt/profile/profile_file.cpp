#include "schmidt/profile/profile_file.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/json.h"
#include "schmidt/io/json_record.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/profile/metric.h"

namespace schmidt::profile {
namespace {

using io::JsonRecord;
using nlohmann::ordered_json;

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxSize = int64_t{1} << 28;
constexpr int64_t kMaxBlocks = 10'000;
constexpr int64_t kMaxExperts = 100'000;
constexpr double kMost = std::numeric_limits<double>::max();

ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json();
}

double number_or_infinity(const JsonRecord& entry, const char* key) {
  return entry.has(key) ? entry.number(key, -kMost, kMost)
                        : std::numeric_limits<double>::infinity();
}

plan::Layer read_layer(const JsonRecord& entry) {
  plan::Layer layer;
  layer.name = entry.text("name");
  layer.members = entry.texts("members");
  layer.block = entry.integer("block", 0, kMaxBlocks - 1);
  for (const int64_t kind : entry.integers("kinds", 1, 7)) {
    layer.paper_numbers.push_back(static_cast<int>(kind));
  }
  if (entry.has("expert")) layer.expert = entry.integer("expert", 0, kMaxExperts - 1);
  layer.rows = entry.integer("rows", 1, kMaxSize);
  layer.cols = entry.integer("cols", 1, kMaxSize);
  if (layer.members.empty() || layer.members.size() != layer.paper_numbers.size()) {
    entry.fail("kinds", fmt::format("expected one for each of {} members, found {}",
                                    layer.members.size(), layer.paper_numbers.size()));
  }
  return layer;
}

LayerProfile read_layer_profile(const JsonRecord& entry, const nlohmann::json& points,
                                const std::string& where, const std::filesystem::path& path) {
  LayerProfile layer{plan::read_network(entry, read_layer(entry)), {}};
  for (size_t i = 0; i < points.size(); ++i) {
    layer.points.push_back(
        read_point(points[i], fmt::format("{}.points.{}", where, i), path, layer.network.shape));
    if (i > 0 && layer.points[i].parameters < layer.points[i - 1].parameters) {
      entry.fail("points", "expected parameters to ascend");
    }
  }
  if (layer.points.empty()) entry.fail("points", "expected at least one");
  return layer;
}

}  // namespace

ordered_json point_json(const Point& point) {
  ordered_json entry = {{"bonds", point.bonds},
                        {"parameters", point.parameters},
                        {"value", finite_or_null(point.value)},
                        {"loss", finite_or_null(point.loss)},
                        {"relative_error", finite_or_null(point.relative_error)}};
  if (point.weighted_error) entry["weighted_error"] = finite_or_null(*point.weighted_error);
  return entry;
}

Point read_point(const nlohmann::json& object, const std::string& where,
                 const std::filesystem::path& path, const tn::SiteShape& shape) {
  const JsonRecord entry(object, where, path);
  Point point;
  point.bonds = plan::read_bonds(entry, shape);
  point.parameters = entry.integer("parameters", 1, INT64_MAX);
  point.value = number_or_infinity(entry, "value");
  point.loss = number_or_infinity(entry, "loss");
  point.relative_error = number_or_infinity(entry, "relative_error");
  if (entry.has("weighted_error")) point.weighted_error = entry.number("weighted_error", 0, kMost);
  return point;
}

void write_profile(const std::filesystem::path& path, const Profile& profile) {
  ordered_json file = {{"version", kVersion},
                       {"model", profile.model},
                       {"metric", profile.metric},
                       {"dense", finite_or_null(profile.dense)},
                       {"setting", profile.setting == Setting::kBonds ? "bonds" : "keep"},
                       {"settings", profile.settings},
                       {"made_by", profile.made_by},
                       {"layers", ordered_json::array()}};
  for (const LayerProfile& layer : profile.layers) {
    const plan::Layer& l = layer.network.layer;
    ordered_json entry = {{"name", l.name},           {"members", l.members}, {"block", l.block},
                          {"kinds", l.paper_numbers}, {"rows", l.rows},       {"cols", l.cols}};
    if (l.expert) entry["expert"] = *l.expert;
    plan::write_network(entry, layer.network);
    for (const Point& point : layer.points) entry["points"].push_back(point_json(point));
    file["layers"].push_back(std::move(entry));
  }
  write_file_atomically(path, io::json_text(file, 1) + "\n");
}

Profile read_profile(const std::filesystem::path& path) {
  const nlohmann::json content = io::read_json_object(path);
  const JsonRecord file(content, "", path);
  file.integer("version", kVersion, kVersion);
  Profile profile;
  profile.model = file.text("model");
  profile.metric = file.text("metric");
  if (std::ranges::none_of(metrics(), [&](const Metric* m) { return m->name == profile.metric; })) {
    file.fail("metric", fmt::format("expected a known metric, found \"{}\"", profile.metric));
  }
  profile.dense = number_or_infinity(file, "dense");
  const std::string setting = file.text("setting");
  if (setting != "bonds" && setting != "keep") {
    file.fail("setting", fmt::format("expected bonds or keep, found \"{}\"", setting));
  }
  profile.setting = setting == "bonds" ? Setting::kBonds : Setting::kKeep;
  for (const nlohmann::json& value : content.value("settings", nlohmann::json::array())) {
    if (!value.is_number()) file.fail("settings", "expected numbers");
    profile.settings.push_back(value.get<double>());
  }
  profile.made_by = file.object("made_by");
  const auto layers = file.records("layers");
  for (size_t i = 0; i < layers.size(); ++i) {
    const nlohmann::json& entry = content["layers"][i];
    const auto points = entry.find("points");
    if (points == entry.end() || !points->is_array()) {
      layers[i].fail("points", "expected an array of objects");
    }
    profile.layers.push_back(
        read_layer_profile(layers[i], *points, fmt::format("layers.{}", i), path));
    // Points are drawn and matched by their place.
    if (profile.layers.back().points.size() != profile.settings.size()) {
      layers[i].fail("points", fmt::format("expected one for each of {} settings, found {}",
                                           profile.settings.size(), points->size()));
    }
  }
  if (profile.layers.empty()) file.fail("layers", "expected at least one");
  std::vector<plan::LayerPlan> networks;
  for (const LayerProfile& layer : profile.layers) networks.push_back(layer.network);
  compress::check_methods(networks, path);
  return profile;
}

}  // namespace schmidt::profile
