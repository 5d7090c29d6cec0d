#include "schmidt/kernels/low_rank_linear.h"

#include <algorithm>
#include <array>
#include <vector>

#include <ATen/ops/empty.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/row_kernel.h"
#include "schmidt/kernels/team_products.h"

namespace schmidt::kernels {
namespace {

/// Outputs that a kernel sums together have neighbours in one share.
constexpr int64_t kUnit = 4;

/// First the outputs that are rows of the right factors, then, once the team has met, all others
/// and every output to its place.
template <typename T>
class LowRanks : public TeamProduct {
 public:
  LowRanks(torch::Tensor right, std::span<const LowRankWeight> weights)
      : TeamProduct(outputs_of(weights), right.size(1)),
        right_(std::move(right)),
        weights_(weights.begin(), weights.end()),
        even_(right_.size(0) + right_.size(0) % 2) {
    for (const LowRankWeight& weight : weights_) others_ += weight.others.size(0);
    others_ += others_ % 2;
  }

  /// Chooses the kernels that run() takes; false where a library's products are faster.
  bool choose_for_few_rows() {
    for (size_t i = 0; i < of_few_rows_.size(); ++i) {
      of_few_rows_[i] = kernels_of(static_cast<int64_t>(i) + 1, n());
    }
    return std::ranges::none_of(of_few_rows_, [](const auto& kernels) { return kernels.empty(); });
  }

  int64_t between() const override { return even_ + others_; }

  int64_t bytes() const override {
    auto bytes = static_cast<int64_t>(right_.nbytes());
    for (const LowRankWeight& weight : weights_) {
      bytes += static_cast<int64_t>(weight.others.nbytes());
    }
    return bytes;
  }

  /// The kernels of so many rows: of the right factors, then of each weight's other outputs. Empty
  /// where a library's products are faster.
  std::vector<RowKernel<T>> kernels_of(int64_t rows, int64_t x_stride) const {
    std::vector<RowKernel<T>> kernels = {row_kernel(first_problem(rows))};
    if (kernels[0].pairs && (n() % 2 != 0 || x_stride % 2 != 0)) return {};
    for (const LowRankWeight& weight : weights_) {
      kernels.push_back(row_kernel(second_problem(weight, rows)));
      // Behind an odd number of columns the next weight's would be read, which may be NaN.
      if (kernels.back().pairs && weight.begin % 2 != 0) return {};
    }
    const bool all = std::ranges::all_of(
        kernels, [](const RowKernel<T>& kernel) { return kernel.run != nullptr; });
    return all ? kernels : std::vector<RowKernel<T>>();
  }

  /// How many threads are worth waking.
  int64_t threads(const std::vector<RowKernel<T>>& kernels) const {
    int64_t threads = right_.size(0) / kernels[0].grain;
    for (size_t i = 0; i < weights_.size(); ++i) {
      threads += weights_[i].others.size(0) / kernels[i + 1].grain;
    }
    return threads;
  }

  void run(const Member& member, const TeamRows& rows, TeamScratch& /*scratch*/) const override {
    run_by(of_few_rows_[static_cast<size_t>(rows.rows - 1)], member, rows);
  }

  void run_by(const std::vector<RowKernel<T>>& kernels, const Member& member,
              const TeamRows& rows) const {
    T* const chosen = static_cast<T*>(rows.between);
    T* second = chosen + rows.rows * even_;
    GemvProblem<T> first = first_problem(rows.rows);
    first.x = static_cast<const T*>(rows.x);
    first.x_stride = rows.x_stride;
    first.y = chosen;
    multiply(kernels[0], first, member);
    if (even_ != right_.size(0) && member.index() == 0) {
      for (int64_t row = 0; row < rows.rows; ++row) chosen[row * even_ + right_.size(0)] = T(0);
    }
    member.meet();
    T* to = static_cast<T*>(rows.y);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const LowRankWeight& weight = weights_[i];
      GemvProblem<T> problem = second_problem(weight, rows.rows);
      problem.x = chosen + weight.begin;
      problem.y = second;
      const Share share = multiply(kernels[i + 1], problem, member);
      if (problem.m > 0 || member.index() == 0) {  // where there are none, one puts down them all
        merge_columns(*weight.order, span_of_second(*weight.order, share.begin, share.end),
                      RowsToMerge<T>{.first = problem.x,
                                     .second = problem.y,
                                     .result = to,
                                     .rows = rows.rows,
                                     .first_stride = even_,
                                     .second_stride = others_,
                                     .result_stride = rows.y_stride});
      }
      second += problem.m;
      to += weight.order->columns();
    }
  }

 private:
  static int64_t outputs_of(std::span<const LowRankWeight> weights) {
    int64_t m = 0;
    for (const LowRankWeight& weight : weights) m += weight.order->columns();
    return m;
  }

  GemvProblem<T> first_problem(int64_t rows) const {
    return {.w = right_.const_data_ptr<T>(),
            .rows = rows,
            .m = right_.size(0),
            .n = n(),
            .x_stride = n(),
            .w_stride = right_.stride(0),
            .y_stride = even_};
  }

  GemvProblem<T> second_problem(const LowRankWeight& weight, int64_t rows) const {
    return {.w = weight.others.const_data_ptr<T>(),
            .rows = rows,
            .m = weight.others.size(0),
            .n = weight.others.size(1),
            .x_stride = even_,
            .w_stride = weight.others.stride(0),
            .y_stride = others_};
  }

  static Share multiply(const RowKernel<T>& kernel, const GemvProblem<T>& problem,
                        const Member& member) {
    const Share share = member.share(problem.m, std::max(kernel.unit, kUnit));
    if (!share.empty()) kernel.run(problem, share.begin, share.end);
    return share;
  }

  torch::Tensor right_;
  std::vector<LowRankWeight> weights_;
  int64_t even_;  // numbers of a row that the right factors give, made even
  int64_t others_ = 0;
  std::array<std::vector<RowKernel<T>>, kMostTeamRows> of_few_rows_;  // of 1, 2, .. rows
};

/// Both steps on the same threads; undefined where a library's products are faster.
template <typename T>
torch::Tensor fused(const torch::Tensor& x, const torch::Tensor& right,
                    std::span<const LowRankWeight> weights, int64_t rows) {
  const LowRanks<T> product(right, weights);
  const InputRows input = input_rows(x);
  const std::vector<RowKernel<T>> kernels = product.kernels_of(rows, input.stride);
  if (kernels.empty()) return {};
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = product.m();
  const torch::Tensor y = at::empty(shape, x.options());
  const torch::Tensor between = at::empty({rows, product.between()}, x.options());
  const TeamRows of_team = {.x = input.held.const_data_ptr<T>(),
                            .y = y.mutable_data_ptr<T>(),
                            .between = between.mutable_data_ptr<T>(),
                            .rows = rows,
                            .x_stride = input.stride,
                            .y_stride = product.m()};
  run_team(product.threads(kernels) < 2,
           [&](const Member& member) { product.run_by(kernels, member, of_team); });
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

TeamProductPtr low_rank_team_product(const torch::Tensor& right,
                                     std::span<const LowRankWeight> weights) {
  TeamProductPtr made;
  with_fast_type(right.scalar_type(), [&]<typename T>(T*) {
    auto product = std::make_unique<LowRanks<T>>(right, weights);
    if (product->choose_for_few_rows()) made = std::move(product);
  });
  return made;
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
