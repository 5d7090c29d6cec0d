#pragma once

#include <vector>

#include "schmidt/model/projection.h"
#include "schmidt/model/quantized_projection.h"

namespace schmidt::model {

/// Neighbours of one input group whose integers have one format: one product with all of their rows
/// where no gradient of theirs is recorded.
class QuantizedGroup : public Projection {
 public:
  struct Layer {
    std::string name;
    QuantizedMatrix weight;             // [m_i, n]
    std::optional<torch::Tensor> bias;  // [m_i]
  };

  /// Layers that fit_together(), two or more.
  QuantizedGroup(const std::vector<Layer>& layers, torch::ScalarType dtype);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override { return stacked_.rows(); }
  std::vector<NamedTensor> parameters() const override { return each_->parameters(); }
  std::vector<NamedTensor> tensors() const override { return each_->tensors(); }
  torch::Tensor weight() const override { return each_->weight(); }

 private:
  QuantizedMatrix stacked_;
  std::optional<torch::Tensor> bias_;   // [sum of m_i]
  ProjectionPtr each_;                  // layer by layer, in the memory of what is stacked
  std::vector<torch::Tensor> trained_;  // scales and biases of the layers
};

/// Whether one product can serve both.
bool fit_together(const QuantizedGroup::Layer& a, const QuantizedGroup::Layer& b);

}  // namespace schmidt::model
