#pragma once

#include <vector>

#include <torch/torch.h>

#include "schmidt/heal/sharding.h"

namespace schmidt::test {

/// What a rank owns of flat [n], one slice after the other.
inline torch::Tensor owned_part(const heal::Sharding& sharding, const torch::Tensor& flat) {
  std::vector<torch::Tensor> parts = {torch::empty({0})};
  for (const heal::Slice& slice : sharding.owned()) {
    parts.push_back(flat.narrow(0, slice.begin, slice.size()));
  }
  return torch::cat(parts);
}

}  // namespace schmidt::test
