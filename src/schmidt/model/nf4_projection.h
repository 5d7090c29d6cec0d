#pragma once

#include <optional>
#include <string>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/nf4_matrix.h"
#include "schmidt/model/projection.h"

namespace schmidt::model {

/// One layer whose weight is in NF4. Its bias may be trained, its weight not.
class Nf4Projection : public Projection {
 public:
  /// bias [m]; `stored`: the weight as a file holds it, nf4_weight; the whole weight comes in
  /// `dtype`.
  Nf4Projection(std::string name, Nf4Matrix weight, StoredWeight stored,
                std::optional<torch::Tensor> bias, torch::ScalarType dtype);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  int64_t out_features() const override { return weight_.rows(); }
  std::vector<NamedTensor> parameters() const override;  ///< NAME.bias
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override { return weight_.decode(dtype_); }
  const Nf4Matrix& matrix() const { return weight_; }

 private:
  std::string name_;
  Nf4Matrix weight_;
  StoredWeight stored_;
  std::optional<torch::Tensor> bias_;  // [m]
  torch::ScalarType dtype_;
};

/// Layer kind "nf4", whose form is io::nf4_form. The tensors are those of bitsandbytes: NAME.weight
/// uint8 [ceil(m n / 2), 1], NAME.weight.absmax [blocks], NAME.weight.quant_map float32 [16],
/// NAME.weight.nested_absmax and NAME.weight.nested_quant_map with double quantization,
/// NAME.weight.quant_state.bitsandbytes__nf4, the bytes of a JSON text (io/nf4_state.h); and
/// NAME.bias [m].
extern const LayerKind kNf4Kind;

/// W in NF4; `dtype` is that of the weight before, which bitsandbytes unpacks it to.
StoredWeight nf4_weight(const std::string& name, const Nf4Matrix& weight, torch::ScalarType dtype);

}  // namespace schmidt::model
