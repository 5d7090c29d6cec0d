#include "schmidt/model/factored_projection.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "schmidt/kernels/team_products.h"
#include "schmidt/model/quantized_projection.h"

namespace schmidt::model {
namespace {

std::string left_name(const std::string& name) { return name + ".left"; }
std::string right_name(const std::string& name) { return name + ".right"; }

/// [r of both, m, n] as the forms say.
struct Sizes {
  int64_t m, r, n;
};

Sizes sizes_of(const io::JsonRecord& form) {
  const std::vector<int64_t> left = form.record("left").sizes("shape");
  const std::vector<int64_t> right = form.record("right").sizes("shape");
  if (left.size() != 2 || right.size() != 2 || left[1] != right[0]) {
    form.fail("right", "expected factors of matching shapes");
  }
  return {left[0], left[1], right[1]};
}

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const io::JsonRecord form = form_of(layer, weights);
  const Sizes sizes = sizes_of(form);
  if (sizes.m != spec.out_features || sizes.n != spec.in_features) {
    form.fail("left", fmt::format("expected factors of {} x {}, found {} x {}", spec.out_features,
                                  spec.in_features, sizes.m, sizes.n));
  }
  return std::make_shared<FactoredProjection>(
      spec.name,
      load_quantized_matrix(form.record("left"), left_name(spec.name), sizes.m, sizes.r, weights),
      load_quantized_matrix(form.record("right"), right_name(spec.name), sizes.r, sizes.n, weights),
      load_bias(spec, weights), weights.options().dtype);
}

WeightDescription describe(const io::JsonRecord& form, const std::string& /*name*/,
                           const TensorHeaders& /*tensors*/) {
  const Sizes sizes = sizes_of(form);
  const quant::IntegerFormat format = parse_integer_format(form.record("right"));
  return {.shape = {sizes.m, sizes.n},
          .label = fmt::format("rank {} in int{}", sizes.r, format.bits),
          .parameters = sizes.r * (sizes.m + sizes.n)};
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  StoredWeight packed{weight.form, {}};
  for (const char* side : {"left", "right"}) {
    StoredWeight factor =
        pack_quantized_matrix(name + "." + side, weight.form.at(side), weight, options);
    std::ranges::move(factor.tensors, std::back_inserter(packed.tensors));
  }
  return packed;
}

}  // namespace

const LayerKind kFactoredKind = {
    .name = "factored", .load = load_each<load_one>, .describe = describe, .pack = pack};

StoredWeight factored_weight(const std::string& name, const QuantizedMatrix& left,
                             const QuantizedMatrix& right) {
  StoredWeight weight{{{"kind", kFactoredKind.name}}, {}};
  const auto add = [&](const char* side, const std::string& as, const QuantizedMatrix& factor) {
    StoredWeight stored = quantized_weight(as, factor);
    stored.form.erase("kind");
    weight.form[side] = std::move(stored.form);
    std::ranges::move(stored.tensors, std::back_inserter(weight.tensors));
  };
  add("left", left_name(name), left);
  add("right", right_name(name), right);
  return weight;
}

FactoredProjection::FactoredProjection(std::string name, QuantizedMatrix left,
                                       QuantizedMatrix right, std::optional<torch::Tensor> bias,
                                       torch::ScalarType dtype)
    : name_(std::move(name)),
      left_(std::move(left)),
      right_(std::move(right)),
      bias_(std::move(bias)),
      dtype_(dtype) {
  TORCH_CHECK_VALUE(left_.columns() == right_.rows(), "[factored] expected factors [m, r] and ",
                    "[r, n] for ", name_, ", got ", left_.columns(), " columns and ", right_.rows(),
                    " rows");
}

torch::Tensor FactoredProjection::apply(const torch::Tensor& x) const {
  const torch::Tensor y = left_.multiply(right_.multiply(x));
  return bias_ ? y + *bias_ : y;
}

kernels::TeamProductPtr FactoredProjection::team_product(torch::ScalarType dtype) const {
  return kernels::biased(kernels::chained(left_.team_product(std::nullopt, dtype),
                                          right_.team_product(std::nullopt, dtype), dtype),
                         bias_, dtype);
}

torch::Tensor FactoredProjection::weight() const {
  return at::matmul(left_.decode(dtype_), right_.decode(dtype_));
}

std::vector<NamedTensor> FactoredProjection::parameters() const {
  std::vector<NamedTensor> all = {
      {left_name(name_) + ".weight_scale", left_.scales(), Role::kFactor},
      {right_name(name_) + ".weight_scale", right_.scales(), Role::kFactor}};
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

std::vector<NamedTensor> FactoredProjection::tensors() const {
  std::vector<NamedTensor> all = factored_weight(name_, left_, right_).tensors;
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
