#include "schmidt/model/norm.h"

#include "schmidt/kernels/rms_norm.h"

namespace schmidt::model {

torch::Tensor normed(const ModelConfig& config, const torch::Tensor& x,
                     const torch::Tensor& weight) {
  if (config.norm_offset == 0.0) return kernels::rms_norm(x, weight, config.rms_norm_eps);
  const torch::Tensor factor = weight.to(torch::kFloat32) + config.norm_offset;
  return kernels::rms_norm(x.to(torch::kFloat32), factor, config.rms_norm_eps).to(x.scalar_type());
}

}  // namespace schmidt::model
