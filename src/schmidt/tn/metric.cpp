#include "schmidt/tn/metric.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/magnitude.h"

namespace schmidt::tn {
namespace {

constexpr int64_t kDoubleEntries = int64_t{1} << 20;

void check_side(const char* caller, const char* name, const torch::Tensor& moments, int64_t size,
                const torch::Tensor& w) {
  if (!moments.defined()) return;
  TORCH_CHECK_VALUE(moments.dim() == 2 && moments.size(0) == size && moments.size(1) == size &&
                        moments.is_floating_point() && moments.device() == w.device(),
                    "[", caller, "] expected the metric's ", name,
                    " as a floating-point matrix of ", size, " x ", size, " on ", w.device(),
                    ", got ", moments.scalar_type(), " ", moments.sizes(), " on ",
                    moments.device());
  TORCH_CHECK_VALUE(std::isfinite(largest_entry(moments)), "[", caller,
                    "] expected finite entries in the metric's ", name, ", got NaN or infinity");
}

/// Sum of the entries' products: rows in the tensors' type, whose error does not grow with their
/// number.
double inner_product(torch::Tensor&& product, const torch::Tensor& other) {
  return product.mul_(other).sum(1).sum(at::kDouble).item<double>();
}

/// tr(D G D^T) from the blocks of G on and above its diagonal, half of the work; D in
/// parts whose products stay in reach of the allocator.
double quadratic_form(const torch::Tensor& d, const torch::Tensor& g) {
  constexpr int64_t kPart = 1024;
  const int64_t n = d.size(1), width = std::max<int64_t>(256, (n + 5) / 6);
  double total = 0;
  for (const torch::Tensor& part : d.split(kPart)) {
    for (int64_t begin = 0; begin < n; begin += width) {
      const int64_t end = std::min(n, begin + width);
      const torch::Tensor own = part.slice(1, begin, end), rows = g.slice(0, begin, end);
      total += inner_product(at::mm(own, rows.slice(1, begin, end)), own);
      if (end == n) break;
      total += 2 * inner_product(at::mm(own, rows.slice(1, end)), part.slice(1, end));
    }
  }
  return total;
}

}  // namespace

void check_metric(const char* caller, const torch::Tensor& w, const Metric& metric) {
  TORCH_CHECK_VALUE(w.defined() && w.dim() == 2 && w.is_floating_point() && w.numel() > 0, "[",
                    caller, "] expected a floating-point matrix, got ",
                    w.defined() ? w.sizes() : at::IntArrayRef());
  TORCH_CHECK_VALUE(std::isfinite(largest_entry(w)), "[", caller,
                    "] expected finite entries, got NaN or infinity");
  check_side(caller, "input moments", metric.input, w.size(1), w);
  check_side(caller, "output moments", metric.output, w.size(0), w);
}

torch::Tensor weighted(const torch::Tensor& d, const Metric& metric) {
  torch::Tensor x = d;
  if (metric.input.defined()) x = at::mm(x, metric.input);
  if (metric.output.defined()) x = at::mm(metric.output, x);
  return x;
}

double squared_norm(const torch::Tensor& d, const Metric& metric) {
  check_metric("squared_norm", d, metric);
  at::NoGradGuard no_grad;
  const auto dtype =
      d.scalar_type() == at::kDouble || d.numel() <= kDoubleEntries ? at::kDouble : at::kFloat;
  torch::Tensor x = d.to(dtype);
  double value = 0;
  if (metric.input.defined() && metric.output.defined()) {
    value = inner_product(at::mm(metric.output.to(dtype), x), at::mm(x, metric.input.to(dtype)));
  } else if (metric.input.defined()) {
    value = quadratic_form(x, metric.input.to(dtype));
  } else if (metric.output.defined()) {
    value = quadratic_form(x.t(), metric.output.to(dtype));
  } else {
    value = x.square().sum(1).sum(at::kDouble).item<double>();
  }
  return std::max(0.0, value);  // rounding of a vanishing norm may fall below
}

double weighted_error(const torch::Tensor& w, const torch::Tensor& approximation,
                      const Metric& metric) {
  TORCH_CHECK_VALUE(w.sizes() == approximation.sizes(),
                    "[weighted_error] expected an approximation ", w.sizes(), ", got ",
                    approximation.sizes());
  const bool is_double = w.scalar_type() == at::kDouble;
  const auto dtype = is_double ? at::kDouble : at::kFloat;
  const double difference = squared_norm(w.to(dtype) - approximation.to(dtype), metric);
  const double norm = squared_norm(w, metric);
  return norm > 0 ? std::sqrt(difference / norm) : 0.0;
}

}  // namespace schmidt::tn
