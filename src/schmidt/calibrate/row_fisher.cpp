#include "schmidt/calibrate/row_fisher.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/tensordot.h>

namespace schmidt::calibrate {

double RowFisher::loss(const torch::Tensor& d) const {
  const torch::Tensor wide = d.to(torch::kFloat32);
  double sum = 0;
  for (int64_t k = 0; k < moments.size(0); ++k) {
    const torch::Tensor by_row = (at::matmul(wide, moments[k]) * wide).sum(1);
    sum += (by_row * rows.select(1, k)).sum(torch::kFloat64).item<double>();
  }
  return sum / 2;
}

torch::Tensor RowFisher::summed() const { return at::tensordot(rows.sum(0), moments, {0}, {0}); }

}  // namespace schmidt::calibrate
