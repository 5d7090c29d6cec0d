#pragma once

#include <cmath>

#include <ATen/ops/diag_embed.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>

#include "schmidt/tn/moment_norm.h"

namespace schmidt::tn {

/// Positive semi-definite [n, n] of rank `rank`, eigenvalues from 1 to 10^-decades.
inline torch::Tensor random_moments(int64_t n, int64_t rank, double decades = 4) {
  const torch::Tensor q = std::get<0>(at::linalg_qr(at::randn({n, rank}, at::kDouble)));
  return at::mm(q * at::logspace(0, -decades, rank, 10.0, at::kDouble), q.t());
}

/// The symmetric root.
inline torch::Tensor root_of(const torch::Tensor& moments) {
  const auto [values, vectors] = at::linalg_eigh(moments.to(at::kDouble));
  return at::mm(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

/// H^{1/2} D G^{1/2}, whose Frobenius norm is D's weighted one.
inline torch::Tensor whitened(const torch::Tensor& d, const MomentNorm& norm) {
  torch::Tensor x = d.to(at::kDouble);
  if (norm.input.defined()) x = at::mm(x, root_of(norm.input));
  if (norm.output.defined()) x = at::mm(root_of(norm.output), x);
  return x;
}

}  // namespace schmidt::tn
