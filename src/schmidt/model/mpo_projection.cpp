#include "schmidt/model/mpo_projection.h"

#include <utility>

#include <ATen/ops/cat.h>

#include "schmidt/base/memory.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/low_rank_projection.h"
#include "schmidt/tn/contraction.h"

namespace schmidt::model {
namespace {

/// Multiplications of a contraction for each one of the product with the matrix at which a row of x
/// takes as long in either: the matrix is read from memory, cores stay in a cache.
constexpr double kMultiplicationsOfMatrix = 8.0;

/// Rows of a prompt that the forms are compared for.
constexpr int64_t kPrompt = 512;

/// A matrix is formed where so many of its size would fit into the memory that is left.
constexpr int64_t kMatricesLeft = 64;

double multiplications_of_matrix(const tn::Mpo& mpo) {
  return static_cast<double>(mpo.rows() * mpo.cols());
}

bool decodes_faster_as_matrix(const tn::Mpo& mpo) {
  return tn::contraction_cost(mpo.shape(), mpo.bonds(), 1) >
         kMultiplicationsOfMatrix * multiplications_of_matrix(mpo);
}

bool reads_faster_as_matrix(const tn::Mpo& mpo) {
  return tn::contraction_cost(mpo.shape(), mpo.bonds(), kPrompt) >
         kPrompt * multiplications_of_matrix(mpo);
}

/// On the CPU, as what is compared here are its times and its memory.
bool has_room_for_matrix(const tn::Mpo& mpo) {
  const torch::Tensor& core = mpo.cores().front();
  const auto number = static_cast<int64_t>(core.element_size());
  return core.is_cpu() && mpo.rows() * mpo.cols() * number <= available_bytes() / kMatricesLeft;
}

/// W [m, n], multiplied in float32 and then rounded.
torch::Tensor matrix_of(const tn::Mpo& mpo) {
  std::vector<torch::Tensor> cores;
  for (const torch::Tensor& core : mpo.cores()) cores.push_back(core.to(torch::kFloat32));
  return tn::Mpo(std::move(cores)).to_dense().to(mpo.cores().front().scalar_type());
}

/// Layers that are multiplied out, one below the other.
struct Matrices {
  std::vector<LayerSpec> layers;
  std::vector<torch::Tensor> weights, biases;

  void add(const LayerSpec& spec, const tn::Mpo& mpo, const std::optional<torch::Tensor>& bias) {
    layers.push_back(spec);
    weights.push_back(matrix_of(mpo));
    if (bias) biases.push_back(*bias);
  }

  ProjectionPtr projection() const {
    std::optional<torch::Tensor> bias;
    if (!biases.empty()) bias = at::cat(biases);
    return std::make_shared<DenseProjection>(
        layers, weights.size() == 1 ? weights.front() : at::cat(weights), bias);
  }
};

/// Neighbours that are low ranks in the fixed gauge stand together, those that are multiplied out
/// too, and what is neither by itself.
ProjectionPtr load(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  std::vector<LowRankLayer> low_ranks;
  Matrices matrices;
  const auto put_together = [&] {
    if (!low_ranks.empty()) {
      parts.push_back(std::make_shared<LowRankProjection>(std::exchange(low_ranks, {})));
    }
    if (!matrices.layers.empty()) parts.push_back(std::exchange(matrices, {}).projection());
  };
  for (const StoredLayer& layer : layers) {
    const LayerSpec& spec = layer.spec;
    Network network = load_network(form_of(layer, weights), spec.name, spec.out_features,
                                   spec.in_features, weights);
    std::optional<torch::Tensor> bias = load_bias(spec, weights);
    auto* const fixed = std::get_if<tn::GaugeFixed>(&network);
    // On torch::kMeta there are no pivots to look at.
    if (fixed != nullptr && tn::is_low_rank(*fixed) && !fixed->pivots[0].is_meta()) {
      if (!matrices.layers.empty()) put_together();
      low_ranks.push_back({spec.name, std::move(*fixed), std::move(bias)});
      continue;
    }
    const Networks networks = weights.options().networks;
    if (networks == Networks::kAsStored || (fixed != nullptr && fixed->pivots[0].is_meta())) {
      put_together();
      parts.push_back(
          std::make_shared<MpoProjection>(spec.name, std::move(network), std::move(bias)));
      continue;
    }
    const tn::Mpo mpo = fixed != nullptr ? tn::free_gauge(*fixed) : std::get<tn::Mpo>(network);
    const bool may_be_matrix = networks == Networks::kFastest && has_room_for_matrix(mpo);
    if (may_be_matrix && decodes_faster_as_matrix(mpo)) {
      if (!low_ranks.empty()) put_together();
      matrices.add(spec, mpo, bias);
      continue;
    }
    put_together();
    parts.push_back(std::make_shared<MpoProjection>(
        spec.name, mpo, std::move(bias),
        may_be_matrix && reads_faster_as_matrix(mpo) ? matrix_of(mpo) : torch::Tensor()));
  }
  put_together();
  return concatenate(std::move(parts));
}

WeightDescription describe(const io::JsonRecord& form, const std::string& /*name*/,
                           const TensorHeaders& /*tensors*/) {
  const NetworkShape shape = network_shape(form);
  return {.shape = matrix_shape(shape), .networks = {shape}};
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  StoredWeight packed = pack_network(name, weight.form, weight, options);
  packed.form["kind"] = kMpoKind.name;
  return packed;
}

}  // namespace

const LayerKind kMpoKind = {.name = "mpo", .load = load, .describe = describe, .pack = pack};

StoredWeight mpo_weight(const std::string& name, const tn::Mpo& mpo) {
  nlohmann::json form = network_form(mpo);
  form["kind"] = kMpoKind.name;
  return {std::move(form), network_tensors(name, mpo)};
}

MpoProjection::MpoProjection(std::string name, Network network, std::optional<torch::Tensor> bias)
    : name_(std::move(name)),
      network_(std::move(network)),
      bias_(std::move(bias)),
      out_features_(network_size(network_).m) {
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == out_features_),
                    "[mpo] expected a bias of ", out_features_, " values for ", name_);
}

MpoProjection::MpoProjection(std::string name, tn::Mpo cores, std::optional<torch::Tensor> bias,
                             torch::Tensor matrix)
    : MpoProjection(std::move(name), Network(std::move(cores)), std::move(bias)) {
  matrix_ = std::move(matrix);
  is_for_inference_ = true;
}

torch::Tensor MpoProjection::apply(const torch::Tensor& x) const {
  if (matrix_.defined()) return kernels::linear(x, matrix_, bias_);
  const torch::Tensor y = apply_network(network_, x);
  return bias_ ? y + *bias_ : y;
}

kernels::TeamProductPtr MpoProjection::team_product(torch::ScalarType dtype) const {
  if (!is_for_inference_) return nullptr;
  const auto& mpo = std::get<tn::Mpo>(network_);
  const torch::Tensor& core = mpo.cores().front();
  if (core.scalar_type() != dtype || !kernels::fast_types({&core})) return nullptr;
  std::vector<kernels::ContractionStep> steps = tn::contraction_steps(
      mpo.cores(), tn::plan_contraction(mpo.shape(), mpo.bonds(), /*rows=*/1));
  return kernels::biased(kernels::contracted_team_product(std::move(steps), dtype), bias_, dtype);
}

std::vector<NamedTensor> MpoProjection::parameters() const {
  std::vector<NamedTensor> all = network_cores(name_, network_);
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

std::vector<NamedTensor> MpoProjection::tensors() const {
  std::vector<NamedTensor> all = network_tensors(name_, network_);
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
