#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

struct GaussNewtonOptions {
  int64_t rounds = 6;       ///< at most; each moves every core once
  double tolerance = 5e-3;  ///< stops after a round that lowered the error by less than this share
  int64_t cg_steps = 20;    ///< of conjugate gradients in one round, at most
  double cg_tolerance = 1e-3;  ///< ends them when a step gains less than this share of all before
  /// Gives up after a round whose gain, had once more, would leave the error above this.
  double to_beat = std::numeric_limits<double>::infinity();
};

struct GaussNewtonResult {
  std::vector<Mpo> terms;      ///< the best seen, never worse than the start
  double relative_error;       ///< weighted; says nothing of perplexity
  std::vector<double> errors;  ///< of the start, and after each round
  bool gave_up = false;        ///< see to_beat
};

/// Improves a sum of MPOs W' of any shapes towards the least ||W - W'|| in the norm, all
/// cores of all terms at once: W' linear in small changes of the cores gives normal
/// equations, which conjugate gradients solve by products with G and H, with the legs'
/// Kronecker product of each core as preconditioner; then a parabola through three points
/// tells how far to go that way. Terms are balanced before each round. In float32 unless w
/// is float64, in G and H as als() regularizes them; errors are those in G and H themselves.
/// Ahead of als() by conjugate gradients, core by core, at equal numbers of products with G and
/// H; behind als() where that solves directly. The result is in the start's dtype.
/// Throws c10::ValueError if an argument does not fit or is not finite.
/// Source: Nocedal and Wright 2006, Numerical Optimization, section 10.3.
GaussNewtonResult gauss_newton(const torch::Tensor& w, const std::vector<Mpo>& start,
                               const MomentNorm& norm, const GaussNewtonOptions& options = {});

}  // namespace schmidt::tn
