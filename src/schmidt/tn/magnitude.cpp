#include "schmidt/tn/magnitude.h"

#include <ATen/ops/aminmax.h>

namespace schmidt::tn {

double largest_entry(const torch::Tensor& t) {
  if (t.numel() == 0) return 0.0;
  const auto [low, high] = at::aminmax(t);
  const double largest = high.item<double>();  // NaN if any entry is
  return std::max(largest, -low.item<double>());
}

double unit_of(const torch::Tensor& t) {
  const double largest = t.defined() ? largest_entry(t) : 0.0;
  return largest > 0 ? largest : 1.0;
}

}  // namespace schmidt::tn
