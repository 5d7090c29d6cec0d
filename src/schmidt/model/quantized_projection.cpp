#include "schmidt/model/quantized_projection.h"

#include <limits>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/quantized_group.h"
#include "schmidt/model/trained_codes.h"

namespace schmidt::model {
namespace {

constexpr int64_t kMostColumns = int64_t{1} << 28;

struct Names {
  std::string packed, scale, zero_point, shape;
};

Names names_of(const std::string& name) {
  return {name + ".weight_packed", name + ".weight_scale", name + ".weight_zero_point",
          name + ".weight_shape"};
}

ProjectionPtr load_to_train(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const auto& original = weights.options().original;
  const std::string name = spec.name + ".weight";
  // Of an MLP that is pruned the original has other rows or columns.
  const bool known = original && original->tensors().contains(name) &&
                     original->tensors().at(name).shape ==
                         std::vector<int64_t>{spec.out_features, spec.in_features};
  return std::make_shared<TrainedCodes>(
      spec.name,
      load_quantized_matrix(form_of(layer, weights), spec.name, spec.out_features, spec.in_features,
                            weights),
      load_bias(spec, weights), weights.options().dtype,
      known ? original->load(name) : torch::Tensor());
}

ProjectionPtr load(std::span<const StoredLayer> stored, const Weights& weights) {
  if (weights.options().train_codes) return load_each<load_to_train>(stored, weights);
  std::vector<QuantizedGroup::Layer> layers;
  for (const StoredLayer& layer : stored) {
    const LayerSpec& spec = layer.spec;
    layers.push_back({spec.name,
                      load_quantized_matrix(form_of(layer, weights), spec.name, spec.out_features,
                                            spec.in_features, weights),
                      load_bias(spec, weights)});
  }
  std::vector<ProjectionPtr> parts;
  for (size_t begin = 0; begin < layers.size();) {
    size_t end = begin + 1;
    while (end < layers.size() && fit_together(layers[begin], layers[end])) ++end;
    const auto first = layers.begin() + static_cast<std::ptrdiff_t>(begin);
    const torch::ScalarType dtype = weights.options().dtype;
    if (end == begin + 1) {
      parts.push_back(
          std::make_shared<QuantizedProjection>(first->name, first->weight, first->bias, dtype));
    } else {
      parts.push_back(std::make_shared<QuantizedGroup>(
          std::vector(first, layers.begin() + static_cast<std::ptrdiff_t>(end)), dtype));
    }
    begin = end;
  }
  return concatenate(std::move(parts));
}

WeightDescription describe(const io::JsonRecord& form, const std::string& name,
                           const TensorHeaders& tensors) {
  const quant::IntegerFormat format = parse_integer_format(form);
  const auto scale = tensors.find(names_of(name).scale);
  if (scale == tensors.end() || scale->second.shape.size() != 2) return {};  // loading says so
  const std::vector<int64_t> shape = {scale->second.shape[0],
                                      scale->second.shape[1] * format.group};
  return {.shape = shape, .label = format.label(), .parameters = shape[0] * shape[1]};
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  return pack_quantized_matrix(name, weight.form, weight, options);
}

}  // namespace

nlohmann::json to_json(const quant::IntegerFormat& format) {
  return {{"bits", format.bits}, {"group", format.group}, {"symmetric", format.symmetric}};
}

quant::IntegerFormat parse_integer_format(const io::JsonRecord& record) {
  quant::IntegerFormat format;
  format.bits = static_cast<int>(record.integer("bits", 2, 8));
  if (!quant::is_integer_width(format.bits)) {
    record.fail("bits",
                fmt::format("expected {}, found {}", quant::kIntegerWidthsText, format.bits));
  }
  format.group = record.integer("group", 1, kMostColumns);
  format.symmetric = record.flag("symmetric");
  return format;
}

QuantizedMatrix load_quantized_matrix(const io::JsonRecord& form, const std::string& name,
                                      int64_t m, int64_t n, const Weights& weights) {
  const quant::IntegerFormat format = parse_integer_format(form);
  if (n % format.group != 0) {
    form.fail("group", fmt::format("expected a divisor of {} columns, found {}", n, format.group));
  }
  const Names names = names_of(name);
  const int64_t groups = n / format.group;
  const torch::Tensor packed =
      weights.read_stored(names.packed, {m, quant::packed_words(n, format.bits)}, torch::kInt32);
  torch::Tensor scales = weights.options().free_gauge
                             ? weights.read(names.scale, {m, groups})  // to be trained
                             : weights.read_stored(names.scale, {m, groups}, std::nullopt);
  if (scales.scalar_type() == torch::kDouble) scales = scales.to(torch::kFloat32);
  if (!scales.is_meta() && scales.eq(0).any().item<bool>()) {
    throw FormatError(weights.path(), names.scale, "holds a scale of zero");
  }
  torch::Tensor zeros;
  if (format.symmetric && weights.contains(names.zero_point)) {
    throw FormatError(weights.path(), names.zero_point, "expected none of a symmetric layer");
  }
  if (!format.symmetric) {
    zeros = unpacked_zeros(
        weights.read_stored(names.zero_point, {quant::packed_words(m, format.bits), groups},
                            torch::kInt32),
        m, format.bits);
  }
  return {format, packed, scales, zeros, weights.options().activations};
}

StoredWeight pack_quantized_matrix(const std::string& name, const nlohmann::json& form,
                                   const StoredWeight& weight, const PackOptions& options) {
  const Names names = names_of(name);
  StoredWeight packed{form, {}};
  for (const std::string& tensor : {names.packed, names.scale, names.zero_point, names.shape}) {
    if (tensor == names.zero_point && form.at("symmetric").get<bool>()) continue;
    const NamedTensor* found = find_tensor(weight, tensor);
    packed.tensors.push_back(found != nullptr ? *found : NamedTensor{tensor, {}});
  }
  const int bits = form.at("bits").get<int>();
  if (const NamedTensor* codes = find_tensor(weight, codes_name(name))) {
    packed.tensors.front().tensor = packed_codes(codes_of(codes->tensor, bits), bits);
  }
  if (const NamedTensor* zeros = find_tensor(weight, zeros_name(name))) {
    packed.tensors.at(2).tensor = packed_zeros(codes_of(zeros->tensor, bits), bits);
  }
  torch::Tensor& scales = packed.tensors[1].tensor;
  if (scales.defined() &&
      c10::elementSize(options.dtype) < c10::elementSize(scales.scalar_type())) {
    scales = scales.to(options.dtype).contiguous();
  }
  // A trained one may have come too near zero for its type, and no file may hold a zero.
  if (scales.defined()) {
    scales = scales.masked_fill(scales.eq(0), scales.scalar_type() == torch::kFloat16
                                                  ? 0x1p-24
                                                  : double{std::numeric_limits<float>::min()});
  }
  return packed;
}

const LayerKind kQuantizedKind = {
    .name = "quantized", .load = load, .describe = describe, .pack = pack};

StoredWeight quantized_weight(const std::string& name, const QuantizedMatrix& weight) {
  const quant::IntegerFormat& format = weight.format();
  const Names names = names_of(name);
  StoredWeight stored{to_json(format), {}};
  stored.form["kind"] = kQuantizedKind.name;
  stored.form["shape"] = {weight.rows(), weight.columns()};
  stored.tensors.push_back({names.packed, weight.packed()});
  stored.tensors.push_back({names.scale, weight.scales()});
  if (!format.symmetric) {
    stored.tensors.push_back({names.zero_point, packed_zeros(weight.zeros(), format.bits)});
  }
  stored.tensors.push_back({names.shape, at::tensor({weight.rows(), weight.columns()},
                                                    at::TensorOptions(torch::kInt64))});
  return stored;
}

QuantizedProjection::QuantizedProjection(std::string name, QuantizedMatrix weight,
                                         std::optional<torch::Tensor> bias, torch::ScalarType dtype)
    : name_(std::move(name)), weight_(std::move(weight)), bias_(std::move(bias)), dtype_(dtype) {}

kernels::TeamProductPtr QuantizedProjection::team_product(torch::ScalarType dtype) const {
  return weight_.team_product(bias_, dtype);
}

torch::Tensor QuantizedProjection::apply(const torch::Tensor& x) const {
  const torch::Tensor y = weight_.multiply(x);
  return bias_ ? y + *bias_ : y;
}

std::vector<NamedTensor> QuantizedProjection::parameters() const {
  std::vector<NamedTensor> all = {{names_of(name_).scale, weight_.scales(), Role::kFactor}};
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

std::vector<NamedTensor> QuantizedProjection::tensors() const {
  std::vector<NamedTensor> all = quantized_weight(name_, weight_).tensors;
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
