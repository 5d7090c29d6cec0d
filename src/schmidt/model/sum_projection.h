#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "schmidt/model/layer_kind.h"
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
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override;
  const std::vector<Network>& terms() const { return terms_; }

 private:
  using Listing = std::vector<NamedTensor> (*)(const std::string& name, const Network& network);
  std::vector<NamedTensor> listed(Listing list) const;

  std::string name_;
  std::vector<Network> terms_;
  std::optional<torch::Tensor> bias_;  // [m]
  int64_t out_features_ = 0;
};

/// Layer kind "sum": {"terms": [FORM, FORM, ..]}, a Network each under NAME.terms.i,
/// and NAME.bias [m]. Loading throws FormatError as load_network does, or for fewer than
/// two terms.
extern const LayerKind kSumKind;

/// W as the sum of MPOs in the full gauge.
StoredWeight sum_weight(const std::string& name, const std::vector<tn::Mpo>& terms);

}  // namespace schmidt::model
