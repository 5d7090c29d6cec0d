#include "schmidt/model/sum_projection.h"

#include <fmt/format.h>

namespace schmidt::model {
namespace {

std::string term_name(const std::string& name, size_t i) {
  return fmt::format("{}.terms.{}", name, i);
}

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const Form form = form_of(layer, weights);
  const std::vector<Form> forms = form.forms("terms");
  if (forms.size() < 2) {
    form.fail("terms", fmt::format("expected two terms or more, found {}", forms.size()));
  }
  std::vector<Network> terms;
  for (const Form& term : forms) {
    terms.push_back(load_network(term, term_name(spec.name, terms.size()), spec.out_features,
                                 spec.in_features, weights));
  }
  return std::make_shared<SumProjection>(spec.name, std::move(terms), load_bias(spec, weights));
}

}  // namespace

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

std::vector<NamedTensor> SumProjection::parameters() const {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < terms_.size(); ++i) {
    for (NamedTensor& core : network_cores(term_name(name_, i), terms_[i])) {
      all.push_back(std::move(core));
    }
  }
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

ProjectionPtr load_sum(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  for (const StoredLayer& layer : layers) parts.push_back(load_one(layer, weights));
  return concatenate(std::move(parts));
}

}  // namespace schmidt::model
