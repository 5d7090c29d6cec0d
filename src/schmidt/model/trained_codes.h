#pragma once

#include <optional>
#include <string>

#include <torch/types.h>

#include "schmidt/model/projection.h"
#include "schmidt/model/quantized_matrix.h"

namespace schmidt::model {

/// One layer in integers of few bits whose codes and zero points are trained, where
/// LoadOptions::train_codes asks for it. It computes with the nearest integers of numbers that
/// change in small steps, and their gradient is that of the integers, as if rounding changed
/// nothing; it ends at the range.
///
///   W' = s (q - z),  q = clamp(round(16 u), 0, 2^bits - 1),  z = clamp(round(16 v), 0, 2^bits - 1)
///
/// so that rates which suit other weights move a code within some hundred steps.
/// Source: Bengio, Leonard and Courville 2013, arXiv:1308.3432 (straight-through estimator).
class TrainedCodes : public Projection {
 public:
  /// u and scales in `dtype`, bias [m]. u begins at the codes or, where the weight [m, n] is given
  /// that they were rounded from, where it lies around them.
  TrainedCodes(std::string name, const QuantizedMatrix& weight, std::optional<torch::Tensor> bias,
               torch::ScalarType dtype, const torch::Tensor& original = {});

  torch::Tensor apply(const torch::Tensor& x) const override;
  torch::Tensor rows(const torch::Tensor& ids) const override;
  int64_t out_features() const override { return codes_.size(0); }
  /// NAME.weight_codes, which is u [m, n], NAME.weight_scale, where there are zero points
  /// NAME.weight_zeros, which is v [m, groups], NAME.bias
  std::vector<NamedTensor> parameters() const override;
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override;

 private:
  std::string name_;
  quant::IntegerFormat format_;
  torch::Tensor codes_;   // u [m, n]
  torch::Tensor scales_;  // [m, groups]
  torch::Tensor zeros_;   // v [m, groups], that of the middle where symmetric
  std::optional<torch::Tensor> bias_;
};

/// The names of u and v, and the integers that they stand for, uint8.
std::string codes_name(const std::string& layer);
std::string zeros_name(const std::string& layer);
torch::Tensor codes_of(const torch::Tensor& u, int bits);

}  // namespace schmidt::model
