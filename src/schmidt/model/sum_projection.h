#pragma once

#include <optional>
#include <string>
#include <vector>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::model {

/// One layer whose weight is a sum, W = W_0 + W_1 + ..: low rank and a balanced MPO, which fit
/// different parts of a matrix, or integers of few bits and a low rank of what rounding loses.
class SumProjection : public Projection {
 public:
  /// Terms without biases, bias [m]. Throws c10::ValueError if there is no term or they do not
  /// fit.
  SumProjection(std::string name, std::vector<ProjectionPtr> terms,
                std::optional<torch::Tensor> bias);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override { return terms_.front()->out_features(); }
  /// Those of the terms, NAME.terms.0.cores.0 .., and NAME.bias
  std::vector<NamedTensor> parameters() const override;
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override;

 private:
  using Listing = std::vector<NamedTensor> (Projection::*)() const;
  std::vector<NamedTensor> listed(Listing list) const;

  std::string name_;
  std::vector<ProjectionPtr> terms_;
  std::optional<torch::Tensor> bias_;  // [m]
};

/// Layer kind "sum": {"terms": [FORM, FORM, ..]}, a weight each under NAME.terms.i, of the kind
/// that its form names, a Network where it names none; and NAME.bias [m]. Loading throws
/// FormatError as that of the terms, or for fewer than two.
extern const LayerKind kSumKind;

/// W as the sum of MPOs in the full gauge.
StoredWeight sum_weight(const std::string& name, const std::vector<tn::Mpo>& terms);

/// The name of a term, under which its tensors stand.
std::string term_name(const std::string& name, size_t i);

/// The sum of weights whose tensors stand under the names of terms.
StoredWeight sum_weight(std::vector<StoredWeight> terms);

}  // namespace schmidt::model
