#pragma once

#include "schmidt/compress/methods.h"
#include "schmidt/tn/moment_norm.h"

namespace schmidt::compress {

/// What a calibrated layer is to approximate, and the norm in which it is judged.
struct WeightedTarget {
  torch::Tensor matrix;  ///< M [m, n]: W, or W T where targets follow the drift; W's dtype
  tn::MomentNorm norm;   ///< G' with the ridge; H with the damping, if H itself is known
};

WeightedTarget weighted_target(const torch::Tensor& w, const LayerInputs& inputs,
                               const MethodOptions& options);

/// Null where targets do not follow the drift.
std::shared_ptr<const tn::DriftMap> drift_map(const LayerInputs& inputs,
                                              const MethodOptions& options);

}  // namespace schmidt::compress
