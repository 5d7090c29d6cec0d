#include "schmidt/tn/truncated_svd.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>

namespace schmidt::tn {
namespace {

double squared_norm(const torch::Tensor& t) { return t.square().sum().item<double>(); }

/// Below this share of the largest one a singular value is taken for rounding:
/// that of W's entries in float32, and in float64 that of the SVD too.
constexpr double kSingleRounding = 2.0 * std::numeric_limits<float>::epsilon();
constexpr double kDoubleRounding = 32.0 * std::numeric_limits<double>::epsilon();

/// `energies` are squared singular values, largest first.
int64_t choose_rank(const torch::Tensor& energies, const SvdTruncation& truncation) {
  const torch::Tensor on_cpu = energies.cpu().contiguous();
  const double* const e = on_cpu.const_data_ptr<double>();
  const double rounding = truncation.double_accuracy ? kDoubleRounding : kSingleRounding;
  const double noise = rounding * rounding * e[0];
  int64_t rank = on_cpu.numel();
  double dropped = 0;
  while (rank > 1) {
    const double next = std::max(0.0, e[rank - 1]);
    if (next > noise && dropped + next > truncation.allowed) break;
    dropped += next;
    --rank;
  }
  return std::min(rank, truncation.max_rank);
}

TruncatedSvd by_svd(const torch::Tensor& matrix, const SvdTruncation& truncation) {
  const auto [u, s, vh] = at::linalg_svd(matrix, /*full_matrices=*/false);
  const int64_t rank = choose_rank(s.square(), truncation);
  return {u.slice(1, 0, rank), s.slice(0, 0, rank).unsqueeze(1) * vh.slice(0, 0, rank),
          squared_norm(s.slice(0, rank))};
}

/// Eigenvectors of a Gram matrix, largest eigenvalue first, as many as are kept.
torch::Tensor leading_eigenvectors(const torch::Tensor& gram, const SvdTruncation& truncation) {
  const auto [values, vectors] = at::linalg_eigh(gram);
  return vectors.flip(1).slice(1, 0, choose_rank(values.flip(0), truncation));
}

TruncatedSvd by_gram(const torch::Tensor& matrix, const SvdTruncation& truncation) {
  const int64_t p = matrix.size(0), q = matrix.size(1);
  TruncatedSvd result;
  if (p <= q) {
    result.left = leading_eigenvectors(at::mm(matrix, matrix.t()), truncation);
    result.right = at::mm(result.left.t(), matrix);
  } else {
    const torch::Tensor v = leading_eigenvectors(at::mm(matrix.t(), matrix), truncation);
    const auto [u, r] = at::linalg_qr(at::mm(matrix, v));
    result.left = u;
    result.right = at::mm(r, v.t());
  }
  // Both are orthogonal projections, so what is missing is the difference of squares.
  const bool complete = result.left.size(1) == std::min(p, q);
  result.dropped =
      complete ? 0.0 : std::max(0.0, squared_norm(matrix) - squared_norm(result.right));
  return result;
}

}  // namespace

TruncatedSvd truncated_svd(const torch::Tensor& matrix, const SvdTruncation& truncation) {
  TORCH_INTERNAL_ASSERT(matrix.dim() == 2 && matrix.scalar_type() == at::kDouble &&
                        matrix.numel() > 0 && truncation.max_rank >= 1);
  return truncation.double_accuracy ? by_svd(matrix, truncation) : by_gram(matrix, truncation);
}

}  // namespace schmidt::tn
