#include "schmidt/model/nf4_projection.h"

#include <utility>

#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/io/nf4_state.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/model/stored_layer.h"

namespace schmidt::model {
namespace {

constexpr double kLevelTolerance = 1e-3;  // levels that were stored in 16 bits

struct Names {
  std::string codes, absmax, map, nested_absmax, nested_map, state;
};

Names names_of(const std::string& name) {
  return {name + ".weight",
          name + ".weight.absmax",
          name + ".weight.quant_map",
          name + ".weight.nested_absmax",
          name + ".weight.nested_quant_map",
          name + std::string(io::kNf4StateEnd)};
}

torch::Tensor levels() {
  return at::tensor(at::ArrayRef<float>(quant::kNf4Levels), at::TensorOptions(torch::kFloat32));
}

torch::Tensor bytes_of(const std::string& text) {
  torch::Tensor bytes =
      at::empty({static_cast<int64_t>(text.size())}, at::TensorOptions(torch::kUInt8));
  std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<uint8_t>());
  return bytes;
}

torch::Tensor read_floats(const Weights& weights, const std::string& name, int64_t count) {
  return weights.read_stored(name, {count}, std::nullopt).to(torch::kFloat32);
}

void check_magnitudes(const Weights& weights, const std::string& name, const torch::Tensor& found) {
  if (!found.is_meta() && found.lt(0).any().item<bool>()) {
    throw FormatError(weights.path(), name, "expected magnitudes of 0 and more, found less");
  }
}

/// The bytes of the state's text.
torch::Tensor read_text(const Weights& weights, const std::string& name) {
  const auto shape = weights.shape_of(name);
  const bool is_text = shape && shape->size() == 1;
  return weights.read_stored(name, is_text ? *shape : std::vector<int64_t>{1}, torch::kUInt8);
}

/// The state whose layout has to be the form's.
io::Nf4State read_state(const Weights& weights, const std::string& name, const torch::Tensor& text,
                        const io::Nf4State& form) {
  if (text.is_meta()) return form;
  const torch::Tensor here = text.to(torch::kCPU);
  const auto* begin = here.const_data_ptr<uint8_t>();
  const io::Nf4State state =
      io::parse_nf4_state(std::string(begin, begin + here.numel()), name, weights.path());
  if (!state.has_layout_of(form)) {
    throw FormatError(
        weights.path(), name,
        fmt::format("expected what config.json says, {}, found {}", form.layout(), state.layout()));
  }
  return state;
}

Nf4Parts read_parts(const Weights& weights, const Names& names, const io::Nf4State& state) {
  const int64_t count = state.rows * state.columns;
  const int64_t blocks = quant::blocks_of(count, state.block);
  Nf4Parts parts{.rows = state.rows, .columns = state.columns, .block = state.block};
  parts.codes = weights.read_stored(names.codes, {quant::nf4_bytes(count), 1}, torch::kUInt8);
  const torch::Tensor map = read_floats(weights, names.map, 16);
  if (!map.is_meta() && !at::allclose(map.to(torch::kCPU), levels(), 0, kLevelTolerance)) {
    throw FormatError(weights.path(), names.map, "expected the levels of NF4, found others");
  }
  if (state.nested_block == 0) {
    parts.absmax = read_floats(weights, names.absmax, blocks);
    check_magnitudes(weights, names.absmax, parts.absmax);
    return parts;
  }
  parts.absmax = weights.read_stored(names.absmax, {blocks}, torch::kUInt8);
  parts.nested_block = state.nested_block;
  parts.offset = state.offset;
  parts.nested_absmax =
      read_floats(weights, names.nested_absmax, quant::blocks_of(blocks, state.nested_block));
  check_magnitudes(weights, names.nested_absmax, parts.nested_absmax);
  parts.nested_map = read_floats(weights, names.nested_map, 256);
  return parts;
}

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const io::JsonRecord form = form_of(layer, weights);
  const io::Nf4State described = io::parse_nf4_form(form);
  if (described.rows != spec.out_features || described.columns != spec.in_features) {
    form.fail("shape", fmt::format("expected {} x {}, found {} x {}", spec.out_features,
                                   spec.in_features, described.rows, described.columns));
  }
  const Names names = names_of(spec.name);
  const torch::Tensor text = read_text(weights, names.state);
  const io::Nf4State state = read_state(weights, names.state, text, described);
  Nf4Matrix matrix(read_parts(weights, names, state));
  if (!matrix.parts().absmax.is_meta() && !at::isfinite(matrix.magnitudes()).all().item<bool>()) {
    throw FormatError(weights.path(), names.absmax, "stands for NaN or infinite magnitudes");
  }
  StoredWeight stored = nf4_weight(spec.name, matrix, torch::kFloat32);
  stored.tensors.back().tensor = text;
  return std::make_shared<Nf4Projection>(spec.name, std::move(matrix), std::move(stored),
                                         load_bias(spec, weights), weights.options().dtype);
}

WeightDescription describe(const io::JsonRecord& form, const std::string& /*name*/,
                           const TensorHeaders& /*tensors*/) {
  const io::Nf4State state = io::parse_nf4_form(form);
  return {.shape = {state.rows, state.columns},
          .label = fmt::format("NF4, blocks of {}{}", state.block,
                               state.nested_block > 0 ? ", double quantization" : ""),
          .parameters = state.rows * state.columns};
}

/// Nothing of it is trained, and its magnitudes stay in float32.
StoredWeight pack(const std::string& name, const StoredWeight& weight,
                  const PackOptions& /*options*/) {
  StoredWeight packed{weight.form, {}};
  const Names names = names_of(name);
  const bool nested = weight.form.contains("nested_block");
  for (const std::string& tensor :
       {names.codes, names.absmax, names.map, names.nested_absmax, names.nested_map, names.state}) {
    if (!nested && (tensor == names.nested_absmax || tensor == names.nested_map)) continue;
    const NamedTensor* found = find_tensor(weight, tensor);
    packed.tensors.push_back(found != nullptr ? *found : NamedTensor{tensor, {}});
  }
  return packed;
}

}  // namespace

const LayerKind kNf4Kind = {
    .name = io::kNf4Kind, .load = load_each<load_one>, .describe = describe, .pack = pack};

StoredWeight nf4_weight(const std::string& name, const Nf4Matrix& weight, torch::ScalarType dtype) {
  const Nf4Parts& parts = weight.parts();
  const bool nested = weight.is_double_quantized();
  const bool narrow = dtype == torch::kFloat16 || dtype == torch::kBFloat16;
  const io::Nf4State state{.rows = parts.rows,
                           .columns = parts.columns,
                           .block = parts.block,
                           .nested_block = nested ? parts.nested_block : 0,
                           .offset = parts.offset,
                           .dtype = std::string(io::dtype_name(narrow ? dtype : torch::kFloat32))};
  const Names names = names_of(name);
  const std::string text = io::nf4_state_text(state);
  StoredWeight stored{io::nf4_form(state, text), {}};
  stored.tensors = {
      {names.codes, parts.codes}, {names.absmax, parts.absmax}, {names.map, levels()}};
  if (nested) {
    stored.tensors.push_back({names.nested_absmax, parts.nested_absmax});
    stored.tensors.push_back({names.nested_map, parts.nested_map});
  }
  stored.tensors.push_back({names.state, bytes_of(text)});
  return stored;
}

Nf4Projection::Nf4Projection(std::string name, Nf4Matrix weight, StoredWeight stored,
                             std::optional<torch::Tensor> bias, torch::ScalarType dtype)
    : name_(std::move(name)),
      weight_(std::move(weight)),
      stored_(std::move(stored)),
      bias_(std::move(bias)),
      dtype_(dtype) {}

kernels::TeamProductPtr Nf4Projection::team_product(torch::ScalarType dtype) const {
  return kernels::biased(weight_.team_product(dtype), bias_, dtype);
}

torch::Tensor Nf4Projection::apply(const torch::Tensor& x) const {
  const torch::Tensor y = weight_.multiply(x);
  return bias_ ? y + *bias_ : y;
}

std::vector<NamedTensor> Nf4Projection::parameters() const {
  if (!bias_) return {};
  return {{name_ + ".bias", *bias_}};
}

std::vector<NamedTensor> Nf4Projection::tensors() const {
  std::vector<NamedTensor> all = stored_.tensors;
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
