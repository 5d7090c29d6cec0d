#pragma once

#include <optional>
#include <span>
#include <string>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/network.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// One layer whose weight is a Matrix Product Operator.
class MpoProjection : public Projection {
 public:
  /// network of W [m, n], bias [m]. Throws c10::ValueError if they do not fit.
  MpoProjection(std::string name, Network network, std::optional<torch::Tensor> bias);

  /// The same for inference alone: a team multiplies by copies of the cores, and apply() by W,
  /// where that is defined.
  MpoProjection(std::string name, tn::Mpo cores, std::optional<torch::Tensor> bias,
                torch::Tensor matrix);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override { return out_features_; }
  std::vector<NamedTensor> parameters() const override;  ///< NAME.cores.0 .., NAME.bias
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override { return network_matrix(network_); }
  const Network& network() const { return network_; }

 private:
  std::string name_;
  Network network_;
  std::optional<torch::Tensor> bias_;  // [m]
  torch::Tensor matrix_;               // [m, n], or undefined
  bool is_for_inference_ = false;
  int64_t out_features_;
};

/// Layer kind "mpo": a Network under NAME, and NAME.bias [m]. Loading throws FormatError as
/// load_network does.
extern const LayerKind kMpoKind;

/// W as an MPO in the full gauge.
StoredWeight mpo_weight(const std::string& name, const tn::Mpo& mpo);

}  // namespace schmidt::model
