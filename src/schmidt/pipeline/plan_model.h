#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/outline.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/profile/plan_by_profile.h"

namespace schmidt::pipeline {

/// All that decides a plan: one budget, how it is spent, what is left alone.
struct PlanRecipe {
  /// Statistics of calibration, by which `bytes` are spent on whichever forms lose the least.
  std::optional<std::filesystem::path> statistics;
  FormRules forms;  ///< that compete then

  std::optional<double> keep;   ///< budget: this share of the model's parameters, (0, 1]
  std::optional<double> bytes;  ///< or all weights in so many bytes
  std::string preset;           ///< or that of a model of the paper

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

/// Predicted loss against bytes of all files, for one way to spend them.
struct Frontier {
  std::string name;
  std::vector<plan::Price> points;
};

struct PlanOutcome {
  plan::PlanFile file;  ///< as it was written
  plan::Footprint footprint;
  std::optional<double> loss;          ///< predicted by the profile
  std::optional<double> uniform_loss;  ///< the same of the control at this budget
  std::string_view loss_unit = {};
  /// Of all weights' files. Where bytes were spent by statistics at most these; otherwise exactly,
  /// unless `compress` finds a network of 16 bits nearer in plain cores, or scales of a weight
  /// outside of float16.
  double bytes = 0.0;
  std::vector<Frontier> frontiers = {};  ///< of all forms, and of some kinds alone, in that case
  std::filesystem::path figure = {};     ///< of these
};

/// Plans the compression of a model and writes the plan to `out`, links followed; where statistics
/// decide, a figure of the frontiers beside it.
/// Throws c10::ValueError for a recipe that does not fit the model or a budget out of reach,
/// FormatError for a profile that cannot be read, SystemError.
PlanOutcome plan_model(const plan::Outline& model, const PlanRecipe& recipe,
                       const std::filesystem::path& out, bool force);

}  // namespace schmidt::pipeline
