#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// Dense layers of one input, their weights stacked in one matrix so that a single
/// product serves all. `parameters` are views of it, under each layer's own name.
class DenseProjection : public Projection {
 public:
  /// weight [sum of m_i, n] and bias [sum of m_i] are those of `layers` on top of
  /// each other. Throws c10::ValueError if they do not fit.
  DenseProjection(const std::vector<LayerSpec>& layers, torch::Tensor weight,
                  std::optional<torch::Tensor> bias);

  torch::Tensor apply(const torch::Tensor& x) const override;
  torch::Tensor rows(const torch::Tensor& ids) const override;
  int64_t out_features() const override { return weight_.size(0); }
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  std::vector<NamedTensor> parameters() const override;
  torch::Tensor weight() const override { return weight_; }

 private:
  // Leaves that share the stacked memory, so that an update of one shows in both.
  struct Member {
    std::string name;
    torch::Tensor weight;               // [m_i, n]
    std::optional<torch::Tensor> bias;  // [m_i]
  };

  torch::Tensor weight_;               // [sum of m_i, n]
  std::optional<torch::Tensor> bias_;  // [sum of m_i]
  std::vector<Member> members_;
};

/// Layer kind "dense": NAME.weight [m, n] and NAME.bias [m], all of one input n and
/// with or without bias alike. Loading throws FormatError as Weights::read does.
extern const LayerKind kDenseKind;

/// W [m, n] as it is.
StoredWeight dense_weight(const std::string& name, const torch::Tensor& weight);

}  // namespace schmidt::model
