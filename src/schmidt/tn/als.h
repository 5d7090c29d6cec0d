#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/factorize.h"
#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

struct AlsOptions {
  int64_t sweeps = 4;       ///< at most; each from the first site to the last and back
  double tolerance = 2e-3;  ///< stops after a sweep that lowered the error by less than this share
  double ridge = 1e-10;     ///< of the normal equations, in units of their mean diagonal; > 0
  int64_t direct_rows = 4608;  ///< beyond, and in float32, conjugate gradients solve them
  int64_t cg_steps = 40;       ///< at most, for one core
  double cg_tolerance = 1e-3;  ///< ends them when a step gains less than this share of all before
};

struct AlsResult {
  Mpo mpo;                     ///< the best seen, never worse than the start
  double relative_error;       ///< weighted; says nothing of perplexity
  std::vector<double> errors;  ///< of the start, and after each sweep
};

/// Improves an MPO W' of any shape towards the least ||W - W'|| in the norm, core by
/// core: with the others fixed the error is quadratic in one core, whose normal
/// equations are solved for the step from its present value, so that what a singular
/// norm does not see stays as it is. One factorization of them serves every output
/// index; where they are large, or the norm weights outputs too, conjugate
/// gradients need products with G and H only. For the solves G and H get 1e-8 of their
/// mean diagonal in every direction (1e-6 in float32), so that nothing grows where
/// they are singular; errors are those in G and H themselves. The chain is kept in canonical form
/// around the core at work. In float64, float32 for weights of more than 2^19
/// entries that are not float64. The result is in the start's dtype.
/// Throws c10::ValueError if an argument does not fit or is not finite.
/// Source: alternating linear scheme, Holtz, Rohwedder, Schneider 2012, SIAM J. Sci.
/// Comput. 34(2).
AlsResult als(const torch::Tensor& w, const Mpo& start, const MomentNorm& norm,
              const AlsOptions& options = {});

/// The best of this shape that is known here: als from weighted_tt_svd.
AlsResult weighted_mpo(const torch::Tensor& w, const FactorizeOptions& options,
                       const MomentNorm& norm, const AlsOptions& als_options = {});

}  // namespace schmidt::tn
