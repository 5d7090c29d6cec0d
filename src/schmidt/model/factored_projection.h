#pragma once

#include <optional>
#include <string>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/quantized_matrix.h"
#include "schmidt/model/stored_layer.h"

namespace schmidt::model {

/// One layer of low rank whose factors are in integers of few bits: W = L R.
class FactoredProjection : public Projection {
 public:
  /// left [m, r], right [r, n], bias [m]. Throws c10::ValueError if they do not fit.
  FactoredProjection(std::string name, QuantizedMatrix left, QuantizedMatrix right,
                     std::optional<torch::Tensor> bias, torch::ScalarType dtype);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override { return left_.rows(); }
  /// NAME.left.weight_scale, NAME.right.weight_scale, NAME.bias
  std::vector<NamedTensor> parameters() const override;
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override;

 private:
  std::string name_;
  QuantizedMatrix left_, right_;
  std::optional<torch::Tensor> bias_;  // [m]
  torch::ScalarType dtype_;
};

/// Layer kind "factored": {"left": FORM, "right": FORM}, each that of a quantized matrix under
/// NAME.left and NAME.right, and NAME.bias [m].
extern const LayerKind kFactoredKind;

/// W = L R; scales as they are.
StoredWeight factored_weight(const std::string& name, const QuantizedMatrix& left,
                             const QuantizedMatrix& right);

}  // namespace schmidt::model
