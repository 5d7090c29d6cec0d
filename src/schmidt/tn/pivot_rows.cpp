#include "schmidt/tn/pivot_rows.h"

#include <cmath>
#include <numeric>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_lu_factor.h>
#include <ATen/ops/linalg_solve.h>

namespace schmidt::tn {
namespace {

constexpr double kLargest = 1.5;

/// Rows in the order in which LU with row pivoting takes them.
std::vector<int64_t> elimination_order(const torch::Tensor& a) {
  const torch::Tensor swaps =
      std::get<1>(at::linalg_lu_factor(a, /*pivot=*/true)).to(at::kCPU).contiguous();  // 1-based
  std::vector<int64_t> order(a.size(0));
  std::iota(order.begin(), order.end(), 0);
  const int* const p = swaps.const_data_ptr<int>();
  for (int64_t i = 0; i < swaps.numel(); ++i) std::swap(order[i], order[p[i] - 1]);
  return order;
}

torch::Tensor index_of(const std::vector<int64_t>& rows, int64_t begin, int64_t end) {
  torch::Tensor index = at::empty({end - begin}, at::kLong);
  std::copy(rows.begin() + begin, rows.begin() + end, index.mutable_data_ptr<int64_t>());
  return index;
}

/// A[rows] A[pivots]^{-1}
torch::Tensor coefficients(const torch::Tensor& a, const torch::Tensor& rows,
                           const torch::Tensor& pivots) {
  return at::linalg_solve(a.index_select(0, pivots), a.index_select(0, rows), /*left=*/false);
}

/// Exchanges pivots for other rows until no coefficient is large. Both parts of
/// `order`, pivots first, are kept up to date.
void exchange(std::vector<int64_t>& order, torch::Tensor c, int64_t r) {
  const int64_t most = 20 * r + 100;
  for (int64_t count = 0; count < most; ++count) {
    const int64_t place = c.abs().argmax().item<int64_t>();
    const int64_t i = place / r, j = place % r;
    const double value = c[i][j].item<double>();
    if (!(std::abs(value) > kLargest)) return;
    // Row i becomes pivot j: c <- c - c[:, j] (c[i] - e_j) / c[i, j], and the old
    // pivot's coefficients take row i's place.
    torch::Tensor row = c[i].clone();
    row[j] -= 1;
    const torch::Tensor column = c.select(1, j).clone();
    c.addr_(column, row, /*beta=*/1, /*alpha=*/-1 / value);
    torch::Tensor old = row.neg() / value;
    old[j] = 1 / value;
    c[i].copy_(old);
    std::swap(order[j], order[r + i]);
  }
}

}  // namespace

PivotRows pivot_rows(const torch::Tensor& a) {
  const int64_t rows = a.size(0), r = a.size(1);
  TORCH_INTERNAL_ASSERT(a.dim() == 2 && a.scalar_type() == at::kDouble && r <= rows);
  const torch::Tensor matrix = a.cpu();
  std::vector<int64_t> order = elimination_order(matrix);
  if (r < rows) {
    exchange(order,
             coefficients(matrix, index_of(order, r, rows), index_of(order, 0, r)).contiguous(), r);
  }
  std::sort(order.begin(), order.begin() + r);
  std::sort(order.begin() + r, order.end());
  const torch::Tensor pivots = index_of(order, 0, r);
  return {pivots.to(a.device()),
          coefficients(matrix, index_of(order, r, rows), pivots).contiguous().to(a.device())};
}

}  // namespace schmidt::tn
