#pragma once

#include <optional>
#include <string>

#include "schmidt/model/layer_kind.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/quantized_matrix.h"
#include "schmidt/model/stored_layer.h"

namespace schmidt::model {

/// One layer whose weight is in integers of few bits.
class QuantizedProjection : public Projection {
 public:
  /// bias [m]; rows and the whole weight come in `dtype`.
  QuantizedProjection(std::string name, QuantizedMatrix weight, std::optional<torch::Tensor> bias,
                      torch::ScalarType dtype);

  torch::Tensor apply(const torch::Tensor& x) const override;
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override;
  torch::Tensor rows(const torch::Tensor& ids) const override {
    return weight_.gather(ids, dtype_);
  }
  int64_t out_features() const override { return weight_.rows(); }
  std::vector<NamedTensor> parameters() const override;  ///< NAME.weight_scale, NAME.bias
  std::vector<NamedTensor> tensors() const override;
  torch::Tensor weight() const override { return weight_.decode(dtype_); }
  const QuantizedMatrix& matrix() const { return weight_; }

 private:
  std::string name_;
  QuantizedMatrix weight_;
  std::optional<torch::Tensor> bias_;  // [m]
  torch::ScalarType dtype_;
};

/// Layer kind "quantized": {"bits": 4, "group": 64, "symmetric": false, "shape": [m, n]},
/// the tensors those of compressed-tensors' "pack-quantized": NAME.weight_packed int32 [m, words],
/// NAME.weight_scale [m, n / group], NAME.weight_zero_point int32 [words, n / group] unless
/// symmetric, NAME.weight_shape int64 [2], which is m and n; and NAME.bias [m].
extern const LayerKind kQuantizedKind;

/// A format in JSON: {"bits": 4, "group": 64, "symmetric": false}.
nlohmann::json to_json(const quant::IntegerFormat& format);
/// Throws FormatError for a key that is missing or mistyped, and for bits that do not exist.
quant::IntegerFormat parse_integer_format(const io::JsonRecord& record);

/// The matrix [m, n] that stands under `name` in the layout of kQuantizedKind; `form` gives its
/// format. Throws FormatError.
QuantizedMatrix load_quantized_matrix(const io::JsonRecord& form, const std::string& name,
                                      int64_t m, int64_t n, const Weights& weights);

/// Its tensors of `weight` as a file holds them, the codes those of TrainedCodes where they are
/// there. Scales of 16 bits are of the type that the codes were found for, wider ones have been
/// trained.
StoredWeight pack_quantized_matrix(const std::string& name, const nlohmann::json& form,
                                   const StoredWeight& weight, const PackOptions& options);

/// W in integers of few bits; scales as they are.
StoredWeight quantized_weight(const std::string& name, const QuantizedMatrix& weight);

}  // namespace schmidt::model
