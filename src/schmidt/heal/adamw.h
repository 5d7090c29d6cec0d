#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/parameters.h"

namespace schmidt::heal {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  ///< of matrices and cores
};

/// A range of the vector that Parameters is.
struct Slice {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

/// AdamW on slices of the parameters, whose moments are all it holds: ranks that own
/// different ones hold one optimizer together (ZeRO stage 1).
/// Source: Loshchilov and Hutter 2019, arXiv:1711.05101.
class AdamW {
 public:
  /// Slices in ascending order and apart. Throws c10::ValueError for other ones.
  AdamW(const Parameters& parameters, const std::vector<Slice>& owned, const AdamWOptions& options);

  /// Updates the slices of `values` from those of `gradient`.
  void step(double learning_rate);

  int64_t steps() const { return steps_; }
  /// float32 [sum of the slices], one slice after the other.
  const torch::Tensor& first_moment() const { return first_; }
  const torch::Tensor& second_moment() const { return second_; }

  /// Goes on from a saved state. Throws c10::ValueError for moments of another size.
  void restore(int64_t steps, const torch::Tensor& first, const torch::Tensor& second);

 private:
  /// Tensors of elements that decay, or do not, in the order of the fused update.
  struct Group {
    std::vector<torch::Tensor> values, gradients, first, second;
    double weight_decay = 0.0;
  };

  torch::Tensor first_, second_;
  AdamWOptions options_;
  Group decayed_, kept_;
  int64_t steps_ = 0;
};

}  // namespace schmidt::heal
