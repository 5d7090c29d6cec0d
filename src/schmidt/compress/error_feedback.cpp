#include "schmidt/compress/error_feedback.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

namespace schmidt::compress {
namespace {

/// Columns whose errors reach those after them in one product.
constexpr int64_t kBlock = 64;

/// Rows that are rounded at once: their block stays in a cache.
constexpr int64_t kRows = 4096;

torch::Tensor codes_of_rows(const torch::Tensor& w, const IntegerGrid& grid,
                            const torch::Tensor& feedback) {
  const int64_t n = w.size(1), group = grid.format.group;
  const int highest = grid.format.levels() - 1;
  // A column's numbers lie beside each other.
  torch::Tensor left = w.to(torch::kFloat32).t().contiguous();
  const torch::Tensor scales = grid.scales.t().contiguous(), zeros = grid.zeros.t().contiguous();
  torch::Tensor codes = at::empty_like(left);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t columns = std::min(kBlock, n - begin), end = begin + columns;
    torch::Tensor block = left.narrow(0, begin, columns);
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t j = begin + i;
      const torch::Tensor s = scales[j / group], z = zeros[j / group];
      torch::Tensor error = block[i];  // becomes what rounding it loses
      torch::Tensor code = codes[j];
      code.copy_(error).div_(s).add_(z).round_().clamp_(0, highest);
      error.addcmul_(code - z, s, -1);
      const torch::Tensor reach = feedback[j].narrow(0, j + 1, end - j - 1);
      block.narrow(0, i + 1, columns - i - 1).addr_(reach, error, 1, -1);
    }
    if (end == n) break;
    left.narrow(0, end, n - end)
        .addmm_(feedback.narrow(0, begin, columns).narrow(1, end, n - end).t(), block, 1, -1);
  }
  return codes.t();
}

/// Some rows and columns of a matrix.
struct CodedBlock {
  int64_t top, left, rows, columns;
};

/// What a block's rounding reads: scales and zero points of the whole matrix, feedback among the
/// block's rows and among its columns.
struct BlockGrid {
  const torch::Tensor &scales, &zeros, &among_rows, &among_columns;
};

/// Rounds a block of `target` [m, columns], one number after the other.
void round_block(const CodedBlock& block, const IntegerGrid& grid, const BlockGrid& by,
                 torch::Tensor& target, torch::Tensor& errors, torch::Tensor& codes) {
  const int64_t group = grid.format.group, groups = by.scales.size(1), n = codes.size(1);
  const int64_t columns = block.columns;
  const auto highest = static_cast<float>(grid.format.levels() - 1);
  const float* const of_rows = by.among_rows.const_data_ptr<float>();
  const float* const of_columns = by.among_columns.const_data_ptr<float>();
  std::array<float, kBlock> row{}, lost{};
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t number = block.top + i;
    float* const numbers = target.mutable_data_ptr<float>() + number * columns;
    float* const error = errors.mutable_data_ptr<float>() + number * n + block.left;
    float* const code = codes.mutable_data_ptr<float>() + number * n + block.left;
    const float* const s = by.scales.const_data_ptr<float>() + number * groups;
    const float* const z = by.zeros.const_data_ptr<float>() + number * groups;
    std::copy_n(numbers, columns, row.begin());
    for (int64_t j = 0; j < columns; ++j) {
      const auto at = static_cast<size_t>(j);
      const int64_t g = (block.left + j) / group;
      code[j] = std::clamp(std::nearbyint(row[at] / s[g] + z[g]), 0.0F, highest);
      const float stored = s[g] * (code[j] - z[g]);
      error[j] = row[at] - stored;
      lost[at] = numbers[j] - stored;
      for (int64_t k = j + 1; k < columns; ++k) {
        row[static_cast<size_t>(k)] -= error[j] * of_columns[j * columns + k];
      }
    }
    for (int64_t later = i + 1; later < block.rows; ++later) {
      const float share = of_rows[i * block.rows + later];
      for (int64_t j = 0; j < columns; ++j) {
        numbers[(later - i) * columns + j] -= share * lost[static_cast<size_t>(j)];
      }
    }
  }
}

}  // namespace

torch::Tensor feedback_of(const torch::Tensor& moments, double damping) {
  const int64_t n = moments.size(0);
  const double mean = moments.diagonal().mean().item<double>();
  torch::Tensor inverse = at::eye(n, moments.options().dtype(torch::kFloat64));
  if (mean == 0) return inverse.to(torch::kFloat32);
  torch::Tensor u;
  {
    torch::Tensor damped = moments.to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
    damped.diagonal().add_(damping * mean);
    // G = U U^T of an upper triangle is the Cholesky decomposition in the reverse order of columns,
    // and G^{-1} = U^{-T} U^{-1}.
    u = at::linalg_cholesky(damped.flip({0, 1})).flip({0, 1});
  }
  inverse = at::linalg_solve_triangular(u, inverse, /*upper=*/true);
  return inverse.mul_(u.diagonal().unsqueeze(1)).to(torch::kFloat32);
}

torch::Tensor gptq_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& feedback) {
  torch::Tensor codes = at::empty(w.sizes(), w.options().dtype(torch::kFloat32));
  for (int64_t begin = 0; begin < w.size(0); begin += kRows) {
    const int64_t rows = std::min(kRows, w.size(0) - begin);
    const auto part = [&](const torch::Tensor& t) { return t.narrow(0, begin, rows); };
    part(codes).copy_(
        codes_of_rows(part(w), {grid.format, part(grid.scales), part(grid.zeros)}, feedback));
  }
  return codes;
}

torch::Tensor yaqa_codes(const torch::Tensor& w, const IntegerGrid& grid,
                         const torch::Tensor& of_inputs, const torch::Tensor& of_outputs) {
  const int64_t m = w.size(0), n = w.size(1);
  const auto here = [](const torch::Tensor& t) {
    return t.to(torch::kCPU, torch::kFloat32).contiguous();
  };
  const torch::Tensor numbers = here(w), inputs = here(of_inputs), outputs = here(of_outputs);
  const torch::Tensor scales = here(grid.scales), zeros = here(grid.zeros);
  // E: of each number, once all errors before it are met. They ask of W for F_out^T E F_in in all.
  torch::Tensor errors = at::zeros_like(numbers), codes = at::empty_like(numbers);
  for (int64_t left = 0; left < n; left += kBlock) {
    const int64_t columns = std::min(kBlock, n - left);
    const auto side = [&](const torch::Tensor& t) { return t.narrow(1, left, columns); };
    // In rows of their own, what the rows before have lost in these columns.
    const torch::Tensor asked =
        at::mm(errors.narrow(1, 0, left), side(inputs).narrow(0, 0, left));  // [m, columns]
    torch::Tensor target = side(numbers) - at::mm(outputs.t(), asked);
    const torch::Tensor within = side(inputs).narrow(0, left, columns).contiguous();
    for (int64_t top = 0; top < m; top += kBlock) {
      const int64_t rows = std::min(kBlock, m - top);
      const CodedBlock block{top, left, rows, columns};
      const torch::Tensor corner = outputs.narrow(0, top, rows).narrow(1, top, rows).contiguous();
      round_block(block, grid, {scales, zeros, corner, within}, target, errors, codes);
      const int64_t end = top + rows;
      if (end == m) break;
      const torch::Tensor lost = at::mm(side(errors).narrow(0, top, rows), within);
      target.narrow(0, end, m - end)
          .addmm_(outputs.narrow(0, top, rows).narrow(1, end, m - end).t(), lost, 1, -1);
    }
  }
  return codes.to(w.device());
}

}  // namespace schmidt::compress
