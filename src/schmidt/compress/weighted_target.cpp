#include "schmidt/compress/weighted_target.h"

namespace schmidt::compress {

WeightedTarget weighted_target(const torch::Tensor& w, const LayerInputs& inputs,
                               const MethodOptions& options) {
  const auto drift = drift_map(inputs, options);
  const auto dtype = w.scalar_type();
  WeightedTarget target{drift ? drift->apply(w).to(dtype) : w,
                        {calibrate::with_ridge(inputs.moments, options.ridge).to(dtype), {}}};
  if (inputs.gradient) {
    const torch::Tensor h = calibrate::output_moments(*inputs.gradient, options.damping);
    if (h.defined()) target.norm.output = h.to(dtype);
  }
  return target;
}

std::shared_ptr<const tn::DriftMap> drift_map(const LayerInputs& inputs,
                                              const MethodOptions& options) {
  if (options.drift == 0 || !inputs.cross.defined()) return nullptr;
  if (inputs.drift != nullptr) return inputs.drift;
  return std::make_shared<const tn::DriftMap>(inputs.cross, inputs.moments,
                                              tn::DriftOptions{options.drift, options.ridge});
}

}  // namespace schmidt::compress
