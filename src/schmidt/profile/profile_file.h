#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/plan/plan.h"

namespace schmidt::profile {

/// One layer alone replaced by a network at one setting, the rest of the model as it was.
struct Point {
  std::vector<int64_t> bonds;   ///< the ones reached; of a sum of networks those it might have had
  int64_t parameters = 0;       ///< stored
  double value = 0.0;           ///< of the metric; not finite where the model broke down
  double loss = 0.0;            ///< of quality against the original, in nats a token
  double relative_error = 0.0;  ///< of the weight; says nothing of the metric
  std::optional<double> weighted_error;  ///< in the norm of the layer's inputs
};

struct LayerProfile {
  plan::LayerPlan network;    ///< layer, shape, method and gauge; bonds are the points'
  std::vector<Point> points;  ///< parameters ascending; at least one
};

/// What the points of a profile were chosen by: the paper's bonds, or shares of a layer's
/// parameters.
enum class Setting { kBonds, kKeep };

/// The sensitivity of a model's layers, each alone.
struct Profile {
  std::string model;   ///< fingerprint of the weights
  std::string metric;  ///< "kl", "perplexity"
  double dense = 0.0;  ///< the metric of the original
  Setting setting = Setting::kKeep;
  std::vector<double> settings;      ///< bonds or shares, ascending
  nlohmann::json made_by;            ///< text, tokens, seed, program
  std::vector<LayerProfile> layers;  ///< in the model's order
};

/// The same profile gives the same bytes. Throws SystemError.
void write_profile(const std::filesystem::path& path, const Profile& profile);

/// Throws FormatError for anything missing, mistyped or inconsistent.
Profile read_profile(const std::filesystem::path& path);

/// One point as an object of profile.json and back. Throws FormatError.
nlohmann::ordered_json point_json(const Point& point);
Point read_point(const nlohmann::json& entry, const std::string& where,
                 const std::filesystem::path& path, const tn::SiteShape& shape);

}  // namespace schmidt::profile
