#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/conjugate_gradients.h"
#include "schmidt/tn/moment_norm.h"
#include "schmidt/tn/mpo.h"
#include "schmidt/tn/positive.h"

namespace schmidt::tn {

/// A Kronecker product over the four legs of a core that comes close to its normal
/// equations: what conjugate gradients start every step from.
class LegPreconditioner {
 public:
  /// Inverses of the legs' moments, a, o, i, b.
  explicit LegPreconditioner(std::vector<torch::Tensor> inverses)
      : inverses_(std::move(inverses)) {}

  const std::vector<torch::Tensor>& inverses() const { return inverses_; }

  torch::Tensor solve(const torch::Tensor& residual) const;  ///< [a, o, i, b]

 private:
  std::vector<torch::Tensor> inverses_;
};

/// The least-squares problem of one core C [a, o, i, b], all others fixed:
///
///            i_L   i   i_R
///             |    |    |
///       1 ----L-a--C--b-R---- 1        W'(C), linear in C
///             |    |    |
///            o_L   o   o_R
///
/// minimises ||W - W'(C)||^2 = tr(H (W - W') G (W - W')^T). Its normal equations
/// N C = B have a symmetric positive semi-definite N, singular where G or H is.
/// All tensors are of one floating-point type; G and H may be undefined.
class CoreProblem {
 public:
  /// `cores` of the chain, of which number `site` is sought.
  CoreProblem(const std::vector<torch::Tensor>& cores, int64_t site, const MomentNorm& norm);

  int64_t rows() const;  ///< of N for one output index, where H is the identity: a i b

  torch::Tensor dense(const torch::Tensor& core) const;  ///< W'(C) [m, n]

  /// B for the weight D [m, n]: half of minus the gradient at C if D = W - W'(C).
  torch::Tensor right_side(const torch::Tensor& d) const;

  /// The same for X = H D G, where that is known: what of X this core meets, linear in X.
  torch::Tensor met(const torch::Tensor& x) const;

  /// `earlier` is that of the same site among other cores: its legs o and i are the same.
  LegPreconditioner preconditioner(const LegPreconditioner* earlier = nullptr) const;

  /// The C that solves N C = B by one factorization of N for every output index, with
  /// a relative ridge. H must be undefined. O(rows()^3), plus making N.
  torch::Tensor solve_directly(const torch::Tensor& b, double ridge) const;

  /// The same by conjugate gradients, with preconditioner(). A step takes O(m n (m + n)),
  /// for products with G and H, and two contractions of the chain.
  torch::Tensor solve_by_gradients(const torch::Tensor& b, const CgOptions& options) const;

 private:
  torch::Tensor normal_matrix() const;  // N [i a b, i a b] for one output index

  SiteShape split_;             // (o_L, o, o_R) x (i_L, i, i_R)
  torch::Tensor left_, right_;  // [1, o_L, i_L, a], [b, o_R, i_R, 1]
  MomentNorm norm_;
};

}  // namespace schmidt::tn
