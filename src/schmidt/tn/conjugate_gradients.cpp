#include "schmidt/tn/conjugate_gradients.h"

#include <ATen/ops/zeros_like.h>

namespace schmidt::tn {

double inner_product(const Cores& a, const Cores& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) total += (a[i] * b[i]).sum(at::kDouble).item<double>();
  return total;
}

Cores conjugate_gradients(const Cores& b, const std::function<Cores(const Cores&)>& normal_product,
                          const std::function<Cores(const Cores&)>& precondition,
                          const CgOptions& options) {
  Cores x, residual;
  for (const torch::Tensor& t : b) {
    x.push_back(at::zeros_like(t));
    residual.push_back(t.clone());
  }
  Cores direction = precondition(residual);
  double rho = inner_product(residual, direction), gained = 0;
  for (int64_t step = 0; step < options.steps && rho > 0; ++step) {
    const Cores product = normal_product(direction);
    const double curvature = inner_product(direction, product);
    if (!(curvature > 0)) break;  // nothing left that the norm sees
    const double length = rho / curvature, gain = rho * length;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i].add_(direction[i], length);
      residual[i].sub_(product[i], length);
    }
    gained += gain;
    if (gain <= options.tolerance * gained) break;
    const Cores z = precondition(residual);
    const double next = inner_product(residual, z);
    for (size_t i = 0; i < x.size(); ++i) direction[i] = z[i] + (next / rho) * direction[i];
    rho = next;
  }
  return x;
}

}  // namespace schmidt::tn
