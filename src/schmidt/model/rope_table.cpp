#include "schmidt/model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>

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

// A pair that turns more than beta_fast times in the original context is kept, one that turns
// less than beta_slow times is stretched, those between are blended by their index.
torch::Tensor yarn_frequencies(const torch::Tensor& frequencies, const RopeConfig& rope,
                               int64_t head_dim) {
  const auto original = static_cast<double>(rope.original_max_positions);
  const auto pair_of = [&](double turns) {
    return static_cast<double>(head_dim) * std::log(original / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast);
  double high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  const torch::Tensor pairs = at::arange(head_dim / 2, torch::kFloat32);
  const torch::Tensor stretched = ((pairs - low) / (high - low)).clamp(0.0, 1.0);
  return frequencies / rope.factor * stretched + frequencies * (1.0 - stretched);
}

double dynamic_theta(const RopeConfig& rope, int64_t head_dim, int64_t length) {
  const auto original = static_cast<double>(rope.original_max_positions);
  const double used = std::max(static_cast<double>(length), original);
  const auto dim = static_cast<double>(head_dim);
  return rope.theta *
         std::pow(rope.factor * used / original - (rope.factor - 1.0), dim / (dim - 2.0));
}

torch::Tensor plain_frequencies(double theta, int64_t dim) {
  const torch::Tensor pairs = at::arange(0, dim, 2, torch::kFloat32);
  return 1.0 / at::pow(theta, pairs / static_cast<double>(dim));
}

}  // namespace

RopeTable RopeTable::narrow(int64_t first, int64_t count) const {
  const auto rows = [&](const torch::Tensor& x) {
    return x.defined() ? x.narrow(0, first, count) : x;
  };
  return {rows(cos), rows(sin), rows(local_cos), rows(local_sin)};
}

RopeTable concatenate(const std::vector<RopeTable>& tables) {
  if (tables.size() == 1) return tables.front();
  RopeTable all;
  for (torch::Tensor RopeTable::*const part :
       {&RopeTable::cos, &RopeTable::sin, &RopeTable::local_cos, &RopeTable::local_sin}) {
    if (!(tables.front().*part).defined()) continue;
    std::vector<torch::Tensor> parts;
    for (const RopeTable& table : tables) parts.push_back(table.*part);
    all.*part = at::cat(parts);
  }
  return all;
}

int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial_factor);
}

torch::Tensor rope_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t length) {
  const int64_t dim = rotary_dim(rope, head_dim);
  const double theta =
      rope.scaling == RopeScaling::kDynamic ? dynamic_theta(rope, dim, length) : rope.theta;
  const torch::Tensor plain = plain_frequencies(theta, dim);
  switch (rope.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
      return plain;
    case RopeScaling::kLinear:
      return plain / rope.factor;
    case RopeScaling::kLlama3:
      return llama3_frequencies(plain, rope);
    case RopeScaling::kYarn:
      return yarn_frequencies(plain, rope, dim);
    case RopeScaling::kLongRope:
      return plain / at::tensor(length > rope.original_max_positions ? rope.long_factors
                                                                     : rope.short_factors,
                                torch::kFloat32);
  }
  TORCH_INTERNAL_ASSERT(false, "unknown rope scaling");
}

RopeTable rope_table(const ModelConfig& config, int64_t positions, torch::Device device) {
  return rope_table_end(config.rope, config.head_dim, 0, positions, device);
}

RopeTable rope_table_end(const RopeConfig& rope, int64_t head_dim, int64_t first, int64_t count,
                         torch::Device device) {
  const torch::Tensor positions = at::arange(first, first + count, torch::kFloat32);
  const torch::Tensor angles =
      at::outer(positions, rope_frequencies(rope, head_dim, first + count));
  torch::Tensor cos = angles.cos();
  torch::Tensor sin = angles.sin();
  if (rope.attention_factor != 1.0) {
    cos.mul_(rope.attention_factor);
    sin.mul_(rope.attention_factor);
  }
  RopeTable table = {cos.to(device), sin.to(device)};
  if (rope.local_theta) {
    const torch::Tensor local =
        at::outer(positions, plain_frequencies(*rope.local_theta, rotary_dim(rope, head_dim)));
    table.local_cos = local.cos().to(device);
    table.local_sin = local.sin().to(device);
  }
  return table;
}

}  // namespace schmidt::model
