#include "schmidt/model/rope_table.h"

#include <numbers>

#include <ATen/ops/arange.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>

namespace schmidt::model {
namespace {

// Long wavelengths are stretched by `factor`, short ones kept, those between blended.
torch::Tensor llama3_frequencies(const torch::Tensor& frequencies, const RopeConfig& rope) {
  const auto original = static_cast<double>(rope.original_max_positions);
  const torch::Tensor wavelengths = 2.0 * std::numbers::pi / frequencies;
  // 0 at original / low_freq_factor and beyond, 1 at original / high_freq_factor and below.
  const torch::Tensor kept = ((original / wavelengths - rope.low_freq_factor) /
                              (rope.high_freq_factor - rope.low_freq_factor))
                                 .clamp(0.0, 1.0);
  return (1.0 - kept) * frequencies / rope.factor + kept * frequencies;
}

}  // namespace

torch::Tensor rope_frequencies(const RopeConfig& rope, int64_t head_dim) {
  const torch::Tensor pairs = at::arange(0, head_dim, 2, torch::kFloat32);
  const torch::Tensor plain = 1.0 / at::pow(rope.theta, pairs / static_cast<double>(head_dim));
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return plain;
    case RopeScaling::kLinear:
      return plain / rope.factor;
    case RopeScaling::kLlama3:
      return llama3_frequencies(plain, rope);
  }
  TORCH_INTERNAL_ASSERT(false, "unknown rope scaling");
}

RopeTable rope_table(const ModelConfig& config, int64_t positions, torch::Device device) {
  const torch::Tensor angles = at::outer(at::arange(positions, torch::kFloat32),
                                         rope_frequencies(config.rope, config.head_dim));
  return {angles.cos().to(device), angles.sin().to(device)};
}

}  // namespace schmidt::model
