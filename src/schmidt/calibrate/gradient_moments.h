#pragma once

#include <optional>

#include <torch/types.h>

#include "schmidt/tn/drift.h"

namespace schmidt::calibrate {

/// How much the model's distribution moves with a layer's outputs: with g the
/// gradient, at the outputs of W [m, n], of log p(next token), tokens drawn from the
/// model itself, H = E[g g^T] [m, m] is the output side of the Fisher information
/// in Kronecker form: KL(model || changed model) ~ 1/2 tr(H D G D^T) for a small
/// change D of W, in nats a token, with G = E[x x^T] of the layer's inputs.
///
/// Held on the smaller side of W: H itself, or W^T H W, which is all that matters to
/// approximations W P. Others need H itself.
/// Source: Martens and Grosse 2015, arXiv:1503.05671, section 3.
struct GradientMoments {
  torch::Tensor moments;       ///< H [m, m], or W^T H W [n, n] if `pulled_back`; float32
  bool pulled_back = false;    ///< where n <= m
  double mean_square = 0.0;    ///< tr(H) / m
  torch::Tensor outputs = {};  ///< H [m, m] beside W^T H W, float32, where it was asked for

  GradientMoments to(const torch::Device& device) const;
};

/// H + damping * tr(H) / m [m, m], float32; undefined where only W^T H W is known.
torch::Tensor output_moments(const GradientMoments& gradient, double damping);

/// A weight's directions on its smaller side, in the order of what dropping them
/// costs. For symmetric positive semi-definite A = R R^T and B, with
/// R^T B R = U L U^T and Q = R U:
///
///   P_r = Q_r L_r^{-1} Q_r^T B,  a projector of rank r, P_k = 1 on the range of B
///
/// W' = W P_r is the optimum of rank r in the norm (A = G, B = W^T H W), and
/// W' = P_r^T W that in (A = H, B = W G W^T).
struct Modes {
  torch::Tensor squares;  ///< L [k], descending: squared weighted singular values
  torch::Tensor q;        ///< [k, k], columns in that order
  torch::Tensor dual;     ///< L^{-1} Q^T B = U^T R^{-1} [k, k]
};

/// In float64, float32 beyond 2048 x 2048 where A and B are. Where A is singular, rows of
/// `dual` to vanishing L are 0. Throws c10::LinAlgError if a
/// decomposition does not converge.
Modes weighted_modes(const torch::Tensor& a, const torch::Tensor& b);

/// Q_r and L_r^{-1} Q_r^T B of a projector P_r as above.
struct Projector {
  torch::Tensor q;     ///< [k, r]
  torch::Tensor dual;  ///< [r, k]
};

/// The optimal one, r = min(rank, k). A small rank of large matrices is found in a Krylov space
/// instead, where what is dropped is estimated to be within 1 % of the least.
Projector leading_projector(const torch::Tensor& a, const torch::Tensor& b, int64_t rank);

/// L of the above alone, float64.
torch::Tensor weighted_squares(const torch::Tensor& a, const torch::Tensor& b);

/// The norm pair (A, B) of a layer for its target, the weight W T (null: W), with `damping` of
/// the mean of H's diagonal added to it, so that no output is free, and `ridge` of the mean of G's
/// diagonal added to that.
struct NormPair {
  torch::Tensor a, b;    ///< [k, k], k = min(m, n)
  torch::Tensor target;  ///< [m, n]
};
NormPair norm_pair(const torch::Tensor& weight, const tn::DriftMap* drift,
                   const torch::Tensor& input_moments, const GradientMoments& gradient,
                   double damping, double ridge);

/// `matrix` with `share` of the mean of its diagonal added to the diagonal.
torch::Tensor with_ridge(const torch::Tensor& matrix, double share);

/// float64 up to a size at which its decompositions take minutes; beyond, what `given` is.
torch::ScalarType solve_dtype(int64_t size, torch::ScalarType given);

/// Throws c10::ValueError unless they are finite: a model whose activations overflow on the
/// text has moments of infinity.
void check_finite_moments(const std::string& layer, const torch::Tensor& moments);

}  // namespace schmidt::calibrate
