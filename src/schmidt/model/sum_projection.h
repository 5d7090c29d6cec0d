#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "schmidt/model/network.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {

/// One layer whose weight is a sum of networks, W = W_0 + W_1 + ..: low rank and a
/// balanced MPO, say, which fit different parts of a matrix.
class SumProjection : public Projection {
 public:
  /// Networks of matrices [m, n], bias [m]. Throws c10::ValueError if there is none
  /// or they do not fit.
  SumProjection(std::string name, std::vector<Network> terms, std::optional<torch::Tensor> bias);

  torch::Tensor apply(const torch::Tensor& x) const override;
  int64_t out_features() const override { return out_features_; }
  /// NAME.terms.0.cores.0 .., NAME.bias
  std::vector<NamedTensor> parameters() const override;
  const std::vector<Network>& terms() const { return terms_; }

 private:
  std::string name_;
  std::vector<Network> terms_;
  std::optional<torch::Tensor> bias_;  // [m]
  int64_t out_features_ = 0;
};

/// Layer kind "sum": {"terms": [FORM, FORM, ..]}, a Network each under NAME.terms.i,
/// and NAME.bias [m]. Throws FormatError as load_network does, or for fewer than
/// two terms.
ProjectionPtr load_sum(std::span<const StoredLayer> layers, const Weights& weights);

}  // namespace schmidt::model
