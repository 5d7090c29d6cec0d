#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/gauss_newton.h"
#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::tn {

struct LowRankPlusMpoOptions {
  int64_t rank;                 ///< of the first term, at least 1
  SiteShape shape;              ///< of the second
  std::vector<int64_t> bonds;   ///< its largest
  GaussNewtonOptions fit = {};  ///< of both together
};

/// W' = left right + M.
struct LowRankPlusMpo {
  LowRank low_rank;            ///< its relative_error is that of the sum
  Mpo mpo;                     ///< M
  double relative_error;       ///< weighted; says nothing of perplexity
  std::vector<double> errors;  ///< of the best low-rank term alone, then of the fit's rounds
  bool gave_up = false;        ///< see GaussNewtonOptions::to_beat
};

/// Approximates W by a low-rank matrix plus an MPO: the low-rank optimum of W and
/// weighted_tt_svd of what it leaves with a round of its own, then gauss_newton on both together.
/// Never worse than that optimum alone: where M cannot help it comes back as zeros. Throws
/// c10::ValueError if an argument does not fit or is not finite.
LowRankPlusMpo low_rank_plus_mpo(const torch::Tensor& w, const MomentNorm& norm,
                                 const LowRankPlusMpoOptions& options);

}  // namespace schmidt::tn
