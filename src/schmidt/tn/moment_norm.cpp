#include "schmidt/tn/moment_norm.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>

#include "schmidt/tn/magnitude.h"

namespace schmidt::tn {
namespace {

constexpr int64_t kDoubleEntries = int64_t{1} << 18;

void check_side(const char* caller, const char* name, const torch::Tensor& moments, int64_t size,
                const torch::Tensor& w) {
  if (!moments.defined()) return;
  TORCH_CHECK_VALUE(moments.dim() == 2 && moments.size(0) == size && moments.size(1) == size &&
                        moments.is_floating_point() && moments.device() == w.device(),
                    "[", caller, "] expected the norm's ", name, " as a floating-point matrix of ",
                    size, " x ", size, " on ", w.device(), ", got ", moments.scalar_type(), " ",
                    moments.sizes(), " on ", moments.device());
  TORCH_CHECK_VALUE(std::isfinite(largest_entry(moments)), "[", caller,
                    "] expected finite entries in the norm's ", name, ", got NaN or infinity");
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

void check_norm(const char* caller, const torch::Tensor& w, const MomentNorm& norm) {
  TORCH_CHECK_VALUE(w.defined() && w.dim() == 2 && w.is_floating_point() && w.numel() > 0, "[",
                    caller, "] expected a floating-point matrix, got ",
                    w.defined() ? w.sizes() : at::IntArrayRef());
  TORCH_CHECK_VALUE(std::isfinite(largest_entry(w)), "[", caller,
                    "] expected finite entries, got NaN or infinity");
  check_side(caller, "input moments", norm.input, w.size(1), w);
  check_side(caller, "output moments", norm.output, w.size(0), w);
}

torch::Tensor weighted(const torch::Tensor& d, const MomentNorm& norm) {
  torch::Tensor x = d;
  if (norm.input.defined()) x = at::mm(x, norm.input);
  if (norm.output.defined()) x = at::mm(norm.output, x);
  return x;
}

double squared_norm(const torch::Tensor& d, const MomentNorm& norm) {
  check_norm("squared_norm", d, norm);
  at::NoGradGuard no_grad;
  const auto dtype =
      d.scalar_type() == at::kDouble || d.numel() <= kDoubleEntries ? at::kDouble : at::kFloat;
  torch::Tensor x = d.to(dtype);
  double value = 0;
  if (norm.input.defined() && norm.output.defined()) {
    value = inner_product(at::mm(norm.output.to(dtype), x), at::mm(x, norm.input.to(dtype)));
  } else if (norm.input.defined()) {
    value = quadratic_form(x, norm.input.to(dtype));
  } else if (norm.output.defined()) {
    value = quadratic_form(x.t(), norm.output.to(dtype));
  } else {
    value = x.square().sum(1).sum(at::kDouble).item<double>();
  }
  return std::max(0.0, value);  // rounding of a vanishing norm may fall below
}

double weighted_error(const torch::Tensor& w, const torch::Tensor& approximation,
                      const MomentNorm& norm) {
  TORCH_CHECK_VALUE(w.sizes() == approximation.sizes(),
                    "[weighted_error] expected an approximation ", w.sizes(), ", got ",
                    approximation.sizes());
  const bool is_double = w.scalar_type() == at::kDouble;
  const auto dtype = is_double ? at::kDouble : at::kFloat;
  const double difference = squared_norm(w.to(dtype) - approximation.to(dtype), norm);
  const double whole = squared_norm(w, norm);
  return whole > 0 ? std::sqrt(difference / whole) : 0.0;
}

}  // namespace schmidt::tn
