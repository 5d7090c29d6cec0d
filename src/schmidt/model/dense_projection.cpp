#include "schmidt/model/dense_projection.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/team_products.h"

namespace schmidt::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One product with the stacked weight, its gradient split among the members: their
// gradients are parts of one product too.
struct StackedLinear : torch::autograd::Function<StackedLinear> {
  // members: every layer's weight, then every layer's bias where they have one.
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias, at::TensorList members) {
    context->save_for_backward({x, weight});
    const size_t layers = bias ? members.size() / 2 : members.size();
    std::vector<int64_t> rows;
    for (const torch::Tensor& member : members.slice(0, layers)) rows.push_back(member.size(0));
    context->saved_data["rows"] = rows;
    context->saved_data["bias"] = bias.has_value();
    return kernels::linear(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor& weight = saved[1];
    const torch::Tensor x = saved[0].reshape({-1, weight.size(1)});
    const torch::Tensor dy = gradients[0].reshape({-1, weight.size(0)});
    const std::vector<int64_t> rows = context->saved_data["rows"].toIntVector();
    const bool biased = context->saved_data["bias"].toBool();
    // Inputs that ask for a gradient are counted among the tensors given to forward.
    const size_t first = biased ? 3 : 2;
    const auto wanted = [&](size_t begin) {
      return context->needs_input_grad({{begin, begin + rows.size()}});
    };
    variable_list result(3);
    if (context->needs_input_grad(0)) result[0] = dy.mm(weight).view(saved[0].sizes());
    const auto add = [&](bool any, const auto& stacked) {
      const variable_list parts =
          any ? stacked().split_with_sizes(rows) : variable_list(rows.size());
      result.insert(result.end(), parts.begin(), parts.end());
    };
    add(wanted(first), [&] { return dy.t().mm(x); });
    if (biased) add(wanted(first + rows.size()), [&] { return dy.sum(0); });
    return result;
  }
};

}  // namespace

DenseProjection::DenseProjection(const std::vector<LayerSpec>& layers, torch::Tensor weight,
                                 std::optional<torch::Tensor> bias)
    : weight_(std::move(weight)), bias_(std::move(bias)) {
  int64_t row = 0;
  for (const LayerSpec& layer : layers) row += layer.out_features;
  TORCH_CHECK_VALUE(weight_.dim() == 2 && weight_.size(0) == row, "[dense] expected a weight of ",
                    row, " rows, got ", weight_.sizes());
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == row),
                    "[dense] expected a bias of ", row, " values");
  row = 0;
  for (const LayerSpec& layer : layers) {
    Member member{layer.name, weight_.narrow(0, row, layer.out_features).detach(), std::nullopt};
    if (bias_) member.bias = bias_->narrow(0, row, layer.out_features).detach();
    members_.push_back(std::move(member));
    row += layer.out_features;
  }
}

torch::Tensor DenseProjection::apply(const torch::Tensor& x) const {
  const auto trained = [](const Member& member) {
    return member.weight.requires_grad() || (member.bias && member.bias->requires_grad());
  };
  if (!at::GradMode::is_enabled() || std::none_of(members_.begin(), members_.end(), trained)) {
    return kernels::linear(x, weight_, bias_);
  }
  // Gradients belong to the leaves, which the stacked matrix does not know of.
  std::vector<torch::Tensor> leaves;
  for (const Member& member : members_) leaves.push_back(member.weight);
  for (const Member& member : members_) {
    if (member.bias) leaves.push_back(*member.bias);
  }
  return StackedLinear::apply(x, weight_, bias_, at::TensorList(leaves));
}

torch::Tensor DenseProjection::rows(const torch::Tensor& ids) const {
  // The leaf of a single layer, which a gradient belongs to.
  return at::embedding(members_.size() == 1 ? members_.front().weight : weight_, ids);
}

kernels::TeamProductPtr DenseProjection::team_product(torch::ScalarType dtype) const {
  const bool fits =
      weight_.scalar_type() == dtype && kernels::fast_types({&weight_}) && weight_.stride(1) == 1;
  return fits ? kernels::dense_team_product(weight_, bias_) : nullptr;
}

std::vector<NamedTensor> DenseProjection::parameters() const {
  std::vector<NamedTensor> all;
  for (const Member& member : members_) {
    all.push_back({member.name + ".weight", member.weight});
    if (member.bias) all.push_back({member.name + ".bias", *member.bias});
  }
  return all;
}

namespace {

ProjectionPtr load(std::span<const StoredLayer> layers, const Weights& weights) {
  const bool with_bias = layers.front().spec.bias;
  const int64_t n = layers.front().spec.in_features;
  int64_t rows = 0;
  std::vector<LayerSpec> specs;
  for (const auto& [spec, form] : layers) {
    TORCH_INTERNAL_ASSERT(spec.bias == with_bias && spec.in_features == n,
                          "layers of one group differ in input or bias");
    // Checked before memory is taken on the word of the config.
    weights.require(spec.name + ".weight", {spec.out_features, n});
    rows += spec.out_features;
    specs.push_back(spec);
  }
  if (specs.size() == 1) {  // an embedding is a large part of a model: never twice in memory
    return std::make_shared<DenseProjection>(
        specs, weights.read(specs.front().name + ".weight", {rows, n}),
        load_bias(specs.front(), weights));
  }
  const auto options =
      torch::TensorOptions().dtype(weights.options().dtype).device(weights.options().device);
  const torch::Tensor weight = at::empty({rows, n}, options);
  std::optional<torch::Tensor> bias;
  if (with_bias) bias = at::empty({rows}, options);
  int64_t row = 0;
  for (const LayerSpec& spec : specs) {
    weights.read_into(spec.name + ".weight", weight.narrow(0, row, spec.out_features));
    if (bias) weights.read_into(spec.name + ".bias", bias->narrow(0, row, spec.out_features));
    row += spec.out_features;
  }
  return std::make_shared<DenseProjection>(specs, weight, bias);
}

WeightDescription describe(const io::JsonRecord& /*form*/, const std::string& name,
                           const TensorHeaders& tensors) {
  const auto weight = tensors.find(name + ".weight");
  if (weight == tensors.end()) return {};  // loading says what is missing
  return {.shape = weight->second.shape};
}

}  // namespace

const LayerKind kDenseKind = {
    .name = "dense", .load = load, .describe = describe, .pack = pack_plainly};

StoredWeight dense_weight(const std::string& name, const torch::Tensor& weight) {
  return {{{"kind", kDenseKind.name}}, {{name + ".weight", weight}}};
}

}  // namespace schmidt::model
