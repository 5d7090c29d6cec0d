#include "schmidt/model/sum_projection.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace schmidt::model {
namespace {

std::string term_name(const std::string& name, size_t i) {
  return fmt::format("{}.terms.{}", name, i);
}

std::vector<io::JsonRecord> term_forms(const io::JsonRecord& form) {
  const std::vector<io::JsonRecord> forms = form.records("terms");
  if (forms.size() < 2) {
    form.fail("terms", fmt::format("expected two terms or more, found {}", forms.size()));
  }
  return forms;
}

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const io::JsonRecord form = form_of(layer, weights);
  std::vector<Network> terms;
  for (const io::JsonRecord& term : term_forms(form)) {
    terms.push_back(load_network(term, term_name(spec.name, terms.size()), spec.out_features,
                                 spec.in_features, weights));
  }
  return std::make_shared<SumProjection>(spec.name, std::move(terms), load_bias(spec, weights));
}

ProjectionPtr load(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  for (const StoredLayer& layer : layers) parts.push_back(load_one(layer, weights));
  return concatenate(std::move(parts));
}

WeightDescription describe(const io::JsonRecord& form, const std::string& /*name*/,
                           const TensorHeaders& /*tensors*/) {
  WeightDescription description;
  for (const io::JsonRecord& term : term_forms(form))
    description.networks.push_back(network_shape(term));
  description.shape = matrix_shape(description.networks.front());
  return description;
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  StoredWeight packed{{{"kind", kSumKind.name}}, {}};
  for (size_t i = 0; i < weight.form.at("terms").size(); ++i) {
    StoredWeight term = pack_network(term_name(name, i), weight.form["terms"][i], weight, options);
    packed.form["terms"].push_back(std::move(term.form));
    std::ranges::move(term.tensors, std::back_inserter(packed.tensors));
  }
  return packed;
}

}  // namespace

const LayerKind kSumKind = {.name = "sum", .load = load, .describe = describe, .pack = pack};

StoredWeight sum_weight(const std::string& name, const std::vector<tn::Mpo>& terms) {
  StoredWeight weight{{{"kind", kSumKind.name}}, {}};
  for (size_t i = 0; i < terms.size(); ++i) {
    weight.form["terms"].push_back(network_form(terms[i]));
    std::ranges::move(network_tensors(term_name(name, i), terms[i]),
                      std::back_inserter(weight.tensors));
  }
  return weight;
}

SumProjection::SumProjection(std::string name, std::vector<Network> terms,
                             std::optional<torch::Tensor> bias)
    : name_(std::move(name)), terms_(std::move(terms)), bias_(std::move(bias)) {
  TORCH_CHECK_VALUE(!terms_.empty(), "[sum] expected one term or more for ", name_, ", got none");
  const auto [m, n] = network_size(terms_.front());
  for (const Network& term : terms_) {
    const auto [rows, columns] = network_size(term);
    TORCH_CHECK_VALUE(rows == m && columns == n, "[sum] expected terms of ", m, " x ", n, " for ",
                      name_, ", got one of ", rows, " x ", columns);
  }
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == m),
                    "[sum] expected a bias of ", m, " values for ", name_);
  out_features_ = m;
}

torch::Tensor SumProjection::apply(const torch::Tensor& x) const {
  torch::Tensor y = apply_network(terms_.front(), x);
  for (size_t i = 1; i < terms_.size(); ++i) y = y + apply_network(terms_[i], x);
  return bias_ ? y + *bias_ : y;
}

std::vector<NamedTensor> SumProjection::parameters() const { return listed(network_cores); }

std::vector<NamedTensor> SumProjection::tensors() const { return listed(network_tensors); }

torch::Tensor SumProjection::weight() const {
  torch::Tensor w = network_matrix(terms_.front());
  for (size_t i = 1; i < terms_.size(); ++i) w = w + network_matrix(terms_[i]);
  return w;
}

std::vector<NamedTensor> SumProjection::listed(Listing list) const {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < terms_.size(); ++i) {
    for (NamedTensor& tensor : list(term_name(name_, i), terms_[i])) {
      all.push_back(std::move(tensor));
    }
  }
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
