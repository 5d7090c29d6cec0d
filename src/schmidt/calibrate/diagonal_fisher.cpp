#include "schmidt/calibrate/diagonal_fisher.h"

#include <ATen/ops/matmul.h>

namespace schmidt::calibrate {

double DiagonalFisher::loss(const torch::Tensor& d) const {
  const torch::Tensor by_row = at::matmul(d.to(torch::kFloat32).square(), columns.t());  // [m, k]
  return (by_row * rows).sum(torch::kFloat64).item<double>() / 2;
}

torch::Tensor DiagonalFisher::column_weights() const { return at::matmul(rows.sum(0), columns); }

}  // namespace schmidt::calibrate
