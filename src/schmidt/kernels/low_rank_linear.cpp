#include "schmidt/kernels/low_rank_linear.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/empty.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/parallel_steps.h"
#include "schmidt/kernels/row_kernel.h"

namespace schmidt::kernels {
namespace {

/// The outputs of one weight that are no rows of the right factor.
template <typename T>
struct Others {
  GemvProblem<T> problem;
  RowKernel<T> kernel;
  const LowRankWeight* weight;
  int64_t offset;  // of its outputs in the result
};

/// The first of the outputs of a share, of m in whole units.
int64_t share_begin(int64_t m, int64_t unit, int64_t share, int64_t shares) {
  return share == shares ? m : m * share / shares / unit * unit;
}

template <typename T>
void run(const RowKernel<T>& kernel, const GemvProblem<T>& problem, int64_t begin, int64_t end) {
  if (begin < end) kernel.run(problem, begin, end);
}

/// Both steps on the same threads; undefined where a library's products are faster.
template <typename T>
torch::Tensor fused(const torch::Tensor& x, const torch::Tensor& right,
                    std::span<const LowRankWeight> weights, int64_t rows) {
  const int64_t n = right.size(1), stacked = right.size(0);
  const InputRows input = input_rows(x);
  const int64_t even = stacked + stacked % 2;
  GemvProblem<T> first{.x = input.held.const_data_ptr<T>(),
                       .w = right.const_data_ptr<T>(),
                       .rows = rows,
                       .m = stacked,
                       .n = n,
                       .x_stride = input.stride,
                       .w_stride = right.stride(0),
                       .y_stride = even};
  const RowKernel<T> first_kernel = row_kernel(first);
  if (first_kernel.run == nullptr) return {};
  if (first_kernel.pairs && (n % 2 != 0 || first.x_stride % 2 != 0)) return {};

  std::vector<Others<T>> others;
  int64_t columns = 0, between = 0, threads = stacked / first_kernel.grain;
  for (const LowRankWeight& weight : weights) {
    const int64_t m = weight.others.size(0), r = weight.others.size(1);
    GemvProblem<T> problem{.w = weight.others.const_data_ptr<T>(),
                           .rows = rows,
                           .m = m,
                           .n = r,
                           .x_stride = even,
                           .w_stride = weight.others.stride(0)};
    const RowKernel<T> kernel = row_kernel(problem);
    // Behind an odd number of columns the next weight's would be read, which may be NaN.
    if (kernel.run == nullptr || (kernel.pairs && weight.begin % 2 != 0)) return {};
    others.push_back({problem, kernel, &weight, columns});
    columns += m + r;
    between += m;
    threads += m / kernel.grain;
  }

  torch::Tensor chosen = at::empty({rows, even}, x.options());
  torch::Tensor second = at::empty({rows, between}, x.options());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = columns;
  torch::Tensor y = at::empty(shape, x.options());
  first.y = chosen.mutable_data_ptr<T>();
  T* const to = y.mutable_data_ptr<T>();
  for (T* place = second.mutable_data_ptr<T>(); Others<T> & other : others) {
    other.problem.x = first.y + other.weight->begin;
    other.problem.y = place;
    other.problem.y_stride = between;
    place += other.problem.m;
  }

  const auto multiply_right = [&](int64_t share, int64_t shares) {
    run(first_kernel, first, share_begin(stacked, first_kernel.unit, share, shares),
        share_begin(stacked, first_kernel.unit, share + 1, shares));
    if (even == stacked || share != 0) return;
    for (int64_t row = 0; row < rows; ++row) first.y[row * even + stacked] = T(0);
  };
  const auto multiply_others = [&](int64_t share, int64_t shares) {
    for (const auto& [problem, kernel, weight, offset] : others) {
      const int64_t begin = share_begin(problem.m, kernel.unit, share, shares);
      const int64_t end = share_begin(problem.m, kernel.unit, share + 1, shares);
      run(kernel, problem, begin, end);
      if (problem.m == 0 && share != 0) continue;  // the first has them all
      merge_columns(*weight->order, span_of_second(*weight->order, begin, end),
                    RowsToMerge<T>{.first = problem.x,
                                   .second = problem.y,
                                   .result = to + offset,
                                   .rows = rows,
                                   .first_stride = even,
                                   .second_stride = between,
                                   .result_stride = columns});
    }
  };
  parallel_steps(threads < 2, multiply_right, multiply_others);
  return y;
}

void check(const torch::Tensor& x, const torch::Tensor& right,
           std::span<const LowRankWeight> weights) {
  TORCH_CHECK_VALUE(
      right.dim() == 2 && x.dim() >= 1 && x.size(-1) == right.size(1) && !weights.empty(),
      "[low rank] expected x [.., n], a right factor [R, n] and a weight or more, got ", x.sizes(),
      " and ", right.sizes());
  for (const LowRankWeight& weight : weights) {
    const torch::Tensor& others = weight.others;
    TORCH_CHECK_VALUE(others.dim() == 2 && weight.begin >= 0 &&
                          weight.begin + others.size(1) <= right.size(0) &&
                          static_cast<int64_t>(weight.order->first().size()) == others.size(1) &&
                          static_cast<int64_t>(weight.order->second().size()) == others.size(0),
                      "[low rank] expected ", weight.order->second().size(), " x ",
                      weight.order->first().size(), " beside rows of the right factor, got ",
                      others.sizes(), " from row ", weight.begin, " of ", right.size(0));
  }
}

bool are_fast(const torch::Tensor& x, const torch::Tensor& right,
              std::span<const LowRankWeight> weights) {
  return right.numel() > 0 && right.stride(1) == 1 && fast_path({&x, &right}) &&
         std::ranges::all_of(weights, [&](const LowRankWeight& weight) {
           return fast_path({&x, &weight.others}) && weight.others.stride(1) == 1;
         });
}

}  // namespace

torch::Tensor low_rank_linear_reference(const torch::Tensor& x, const torch::Tensor& right,
                                        std::span<const LowRankWeight> weights) {
  check(x, right, weights);
  const torch::Tensor chosen = kernels::linear(x, right);
  std::vector<Interleaved> all;
  for (const auto& [begin, others, order] : weights) {
    const torch::Tensor first = chosen.narrow(-1, begin, others.size(1));
    all.push_back({first, kernels::linear(first, others), order});
  }
  return interleave(all);
}

torch::Tensor low_rank_linear(const torch::Tensor& x, const torch::Tensor& right,
                              std::span<const LowRankWeight> weights) {
  check(x, right, weights);
  torch::Tensor y;
  if (x.numel() > 0 && are_fast(x, right, weights)) {
    with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
      y = fused<T>(x, right, weights, x.numel() / x.size(-1));
    });
  }
  return y.defined() ? y : low_rank_linear_reference(x, right, weights);
}

}  // namespace schmidt::kernels
