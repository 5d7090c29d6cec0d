#include "schmidt/compress/errors.h"

#include "schmidt/tn/moment_norm.h"

namespace schmidt::compress {

double relative_error(const torch::Tensor& w, const torch::Tensor& approximation) {
  const auto norm_of = [](const torch::Tensor& t) {  // squares may overflow float32
    return t.norm(2, torch::kFloat64).item<double>();
  };
  const double norm = norm_of(w);
  return norm == 0 ? 0.0 : norm_of(w - approximation) / norm;
}

double weighted_error(const torch::Tensor& w, const torch::Tensor& approximation,
                      const LayerInputs& inputs) {
  return tn::weighted_error(w, approximation, {inputs.moments.to(w.scalar_type()), {}});
}

}  // namespace schmidt::compress
