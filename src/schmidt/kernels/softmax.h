#pragma once

#include <optional>

#include <torch/types.h>

namespace schmidt::kernels {

// What losses over a large vocabulary need of p = softmax(logits), without any tensor
// of the vocabulary's size but the one that is asked for. Not differentiable.

/// log(sum(exp(logits))) of every row, so that log p = logits - log_sum.
/// logits [rows, vocab] -> float32 [rows]. Throws c10::ValueError for another shape.
torch::Tensor log_sum_exp(const torch::Tensor& logits);

/// Another distribution over the same vocabulary, q = exp(logits - log_sum).
struct Distribution {
  torch::Tensor logits;   ///< [rows, vocab]
  torch::Tensor log_sum;  ///< float32 [rows]
};

struct SoftmaxGradient {
  torch::Tensor gradient;    ///< weights p - q_weight q, [rows, vocab] in the logits' dtype
  torch::Tensor divergence;  ///< KL(q || p) of every row, nats, float32 [rows]; zeros without q
};

/// The gradient at the logits of losses of the kind sum_i c_i log p_i with sum c_i =
/// -weight: cross entropy and KL(q || p) up to what a few entries add.
/// p's logits [rows, vocab] with their log_sum, weights float32 [rows].
/// Throws c10::ValueError if shapes or dtypes do not fit.
SoftmaxGradient softmax_gradient(const Distribution& p, const torch::Tensor& weights,
                                 const std::optional<Distribution>& q = std::nullopt,
                                 double q_weight = 0.0);

/// The same by ATen operations only, on any device.
SoftmaxGradient softmax_gradient_reference(const Distribution& p, const torch::Tensor& weights,
                                           const std::optional<Distribution>& q, double q_weight);

}  // namespace schmidt::kernels
