#pragma once

#include <optional>
#include <string>
#include <vector>

#include "schmidt/kernels/low_rank_linear.h"
#include "schmidt/model/projection.h"
#include "schmidt/tn/gauge.h"

namespace schmidt::model {

/// A layer whose weight [m, n] is a low rank in the fixed gauge: sites (m, 1) x (1, n).
struct LowRankLayer {
  std::string name;
  tn::GaugeFixed weight;
  std::optional<torch::Tensor> bias;  ///< [m]
};

/// Layers of one input group as low ranks. The outputs at all their pivots are one product with
/// the last cores, stacked; those of each layer give its others, and all go to their places at
/// once:
///
///     x [.., n] ── R [r_1 + r_2 + .., n] ──┬─ pivots of 1 ──┬────────┐
///                                          │                └─ C_1 ──┤
///                                          └─ pivots of 2 ──┬────────┼─ y [.., m_1 + m_2 + ..]
///                                                           └─ C_2 ──┘
class LowRankProjection : public Projection {
 public:
  /// Weights of one n, dtype and device. Throws c10::ValueError if they do not fit.
  explicit LowRankProjection(std::vector<LowRankLayer> layers);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override;
  std::vector<NamedTensor> parameters() const override;  ///< NAME.cores.0, NAME.cores.1, NAME.bias
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override;

 private:
  struct Member {
    LowRankLayer layer;  // its last core is a part of stacked_
    kernels::ColumnOrder order;
    int64_t row;  // of stacked_ at which its last core begins
  };

  bool is_trained() const;
  std::vector<kernels::LowRankWeight> weights() const;
  torch::Tensor outputs(const torch::Tensor& x) const;  // without biases

  std::vector<Member> members_;
  torch::Tensor stacked_;              // [sum of r, each rounded up to even, n]
  std::optional<torch::Tensor> bias_;  // [sum of m], where the layers have one
};

}  // namespace schmidt::model
