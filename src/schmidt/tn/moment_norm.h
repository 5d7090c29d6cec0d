#pragma once

#include <torch/types.h>

namespace schmidt::tn {

/// The norm in which a weight's error counts: ||D||^2 = tr(H D G D^T), D [m, n].
/// With G = E[x x^T] over a layer's inputs and no H it is E|D x|^2, the mean square
/// error at the layer's outputs. Both matrices are symmetric and may be singular.
struct MomentNorm {
  torch::Tensor input;   ///< G [n, n], positive semi-definite; undefined: identity
  torch::Tensor output;  ///< H [m, m], positive semi-definite, such as the second moments
                         ///< of the loss's gradient at the outputs; undefined: identity
};

/// Throws c10::ValueError unless w is a finite floating-point matrix and G and H are
/// finite matrices of its sizes on its device. `caller` opens the message.
void check_norm(const char* caller, const torch::Tensor& w, const MomentNorm& norm);

/// H D G, in D's dtype, which the norm's is too.
torch::Tensor weighted(const torch::Tensor& d, const MomentNorm& norm);

/// tr(H D G D^T) for D [m, n], never below 0. In float64; for D of another type with
/// more than 2^18 entries products are in float32 and only their sums in float64.
/// Throws c10::ValueError as check_norm does.
double squared_norm(const torch::Tensor& d, const MomentNorm& norm);

/// ||W - W'|| / ||W||; 0 if W is zero in that norm and W' is no worse.
double weighted_error(const torch::Tensor& w, const torch::Tensor& approximation,
                      const MomentNorm& norm);

}  // namespace schmidt::tn
