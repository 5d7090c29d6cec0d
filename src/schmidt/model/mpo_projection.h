#pragma once

#include <optional>
#include <span>
#include <string>

#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::model {

/// One layer whose weight is a Matrix Product Operator; the matrix is never formed.
class MpoProjection : public Projection {
 public:
  /// mpo of W [m, n], bias [m]. Throws c10::ValueError if they do not fit.
  MpoProjection(std::string name, tn::Mpo mpo, std::optional<torch::Tensor> bias);

  torch::Tensor apply(const torch::Tensor& x) const override;
  int64_t out_features() const override { return mpo_.rows(); }
  std::vector<NamedTensor> parameters() const override;  ///< NAME.cores.0 .., NAME.bias
  const tn::Mpo& mpo() const { return mpo_; }

 private:
  std::string name_;
  tn::Mpo mpo_;
  std::optional<torch::Tensor> bias_;  // [m]
};

/// Layer kind "mpo": NAME.cores.k [r_{k-1}, m_k, n_k, r_k] and NAME.bias [m], with
/// the form {"kind": "mpo", "out_dims": [m_1, ..], "in_dims": [n_1, ..], "bonds":
/// [r_1, ..]}. Throws FormatError if the form does not multiply out to the layer's
/// shape, or a core is not as the form says.
ProjectionPtr load_mpo(std::span<const StoredLayer> layers, const Weights& weights);

}  // namespace schmidt::model
