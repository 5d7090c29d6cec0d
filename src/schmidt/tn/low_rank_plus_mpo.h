#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/als.h"
#include "schmidt/tn/metric.h"
#include "schmidt/tn/mpo.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::tn {

struct LowRankPlusMpoOptions {
  int64_t rank;                    ///< of the first term, at least 1
  SiteShape shape;                 ///< of the second
  std::vector<int64_t> bonds;      ///< its largest
  int64_t rounds = 4;              ///< at most; each improves both terms once
  double tolerance = 2e-3;         ///< stops after a round that lowered the error by less
  AlsOptions als = {.sweeps = 1};  ///< of each round
};

/// W' = left right + M.
struct LowRankPlusMpo {
  LowRank low_rank;            ///< its relative_error is that of the sum
  Mpo mpo;                     ///< M
  double relative_error;       ///< weighted; says nothing of perplexity
  std::vector<double> errors;  ///< of the best low-rank term alone, then after each round
};

/// Approximates W by a low-rank matrix plus an MPO: in turns the weighted optimum of
/// W - M and als on W - left right, from the low-rank optimum of W and M = 0. Never
/// worse than that start: where M cannot help it comes back as zeros.
/// Throws c10::ValueError if an argument does not fit or is not finite.
LowRankPlusMpo low_rank_plus_mpo(const torch::Tensor& w, const Metric& metric,
                                 const LowRankPlusMpoOptions& options);

}  // namespace schmidt::tn
