#pragma once

#include <cmath>
#include <string>

#include <c10/util/Exception.h>
#include <torch/types.h>

#include "schmidt/tn/magnitude.h"

namespace schmidt::tn {

/// Throws c10::LinAlgError for NaN, which is what some decompositions answer with.
inline void check_converged(const torch::Tensor& found) {
  TORCH_CHECK_LINALG(std::isfinite(tn::largest_entry(found)), "a decomposition gave NaN");
}

/// attempt(false), and attempt(true), which is to work in float64, where a decomposition of the
/// first one does not converge.
/// Throws c10::LinAlgError, naming the layer and the work, where that does not help.
template <typename Attempt>
auto until_it_converges(const std::string& layer, const std::string& work, const Attempt& attempt) {
  try {
    return attempt(false);
  } catch (const c10::LinAlgError&) {
    // Once more below.
  }
  try {
    return attempt(true);
  } catch (const c10::LinAlgError& e) {
    TORCH_CHECK_LINALG(false, "[", layer, "] ", work,
                       " does not converge, in float64 neither: ", e.what_without_backtrace());
  }
}

}  // namespace schmidt::tn
