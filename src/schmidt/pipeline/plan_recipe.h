#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/pipeline/form_times.h"
#include "schmidt/plan/layers.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/profile/plan_by_profile.h"

namespace schmidt::pipeline {

/// All that decides a plan: one budget, how it is spent, what is left alone.
struct PlanRecipe {
  /// Statistics of calibration, by which `bytes` or time are spent on whichever forms lose the
  /// least.
  std::optional<std::filesystem::path> statistics;
  FormRules forms;       ///< that compete then
  bool neurons = false;  ///< MLPs may lose some first, then too

  std::optional<double> keep;     ///< budget: this share of the model's parameters, (0, 1]
  std::optional<double> bytes;    ///< or all weights in so many bytes
  std::string preset;             ///< or that of a model of the paper
  std::optional<double> speedup;  ///< or the model's time here over so much, above 1; by statistics
  Workload workload;              ///< whose time
  double reach = 1.0;  ///< a speedup beyond the fastest by no more than this factor is that one

  std::optional<std::filesystem::path> profile;  ///< none: the same share of every layer
  bool by_profile = true;                        ///< false: the same share all the same, a control
  profile::ShareLimits limits;                   ///< where the profile allocates
  plan::ShapeChoice shape;                       ///< without a profile, which has shapes of its own
  std::string method;                            ///< empty: the profile's, or tt-svd
  std::vector<std::string> protect, ignore;      ///< patterns of layers that stay dense
  std::string dtype;  ///< of what is written; empty: the model's, and 2 bytes for a budget in bytes

  int64_t context = 4096;    ///< tokens for which keys and values are predicted
  double heal_tokens = 1e6;  ///< of the healing whose cost is predicted

  /// Whether a profile decides how much each layer keeps.
  bool allocates() const { return profile && by_profile; }
  double bytes_per_scalar() const { return dtype == "float32" ? 4.0 : 2.0; }
};

/// What a plan's file records of it.
nlohmann::json to_json(const PlanRecipe& recipe);

/// Whether a pattern means the layer or one of those stacked in it.
bool named(const std::vector<std::string>& patterns, const plan::Layer& layer);

/// Throws c10::ValueError where nothing is left to compress.
void check_any(const std::vector<plan::Layer>& layers);

}  // namespace schmidt::pipeline
