#pragma once

#include <vector>

#include <torch/types.h>

#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// A weighted fit of W in the units it is solved in: W, G and H over their largest
/// entries, in one dtype.
struct ScaledFit {
  ScaledFit(const torch::Tensor& w, const MomentNorm& norm, torch::ScalarType dtype);

  /// ||D|| / ||W|| in the norm itself, D = target - W' in the fit's units.
  double error(const torch::Tensor& gap) const;

  Mpo scaled(const Mpo& mpo) const;  ///< in the fit's units and dtype
  Mpo restored(const Mpo& mpo, torch::ScalarType dtype) const;

  torch::Tensor target;
  MomentNorm weights;
  /// The same with 1e-8 of the mean diagonal (1e-6 in float32) in every direction: without it
  /// a core may grow without bound where the norm sees nothing.
  MomentNorm solvable;
  double unit;          ///< of W
  double squared_norm;  ///< ||target||^2 in the norm itself
};

/// Throws c10::ValueError unless check_norm() is content and `start` is a finite network of
/// w's sizes. `caller` opens the message.
void check_fit(const char* caller, const torch::Tensor& w, const std::vector<Mpo>& start,
               const MomentNorm& norm);

}  // namespace schmidt::tn
