#pragma once

#include <cstdint>
#include <functional>

#include <ATen/ops/full.h>
#include <torch/types.h>

namespace schmidt::calibrate {

/// The processes that share a piece of work; by default this one alone. They see the same
/// folders, call the same functions in the same order, and whoever connects them says how.
struct Workers {
  int64_t rank = 0, size = 1;
  /// x [..], contiguous on the CPU, becomes its sum over all, to the last bit the same on
  /// each of them.
  std::function<void(const torch::Tensor& x)> sum;
  std::function<void()> wait;  ///< returns when all have called it

  bool first() const { return rank == 0; }
  bool takes(int64_t piece) const { return piece % size == rank; }

  void meet() const {
    if (size > 1) wait();
  }
  torch::Tensor summed(const torch::Tensor& x) const {
    if (size == 1) return x;
    torch::Tensor all = x.cpu().contiguous();
    sum(all);
    return all.to(x.device());
  }
  /// What the first of them says, for all: each may see another clock, or a file later.
  double agreed(double said) const {
    return summed(at::full({1}, first() ? said : 0.0, torch::kFloat64)).item<double>();
  }
};

}  // namespace schmidt::calibrate
