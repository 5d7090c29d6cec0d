#include "schmidt/model/sum_projection.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "schmidt/kernels/team_products.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/network.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::model {
namespace {

std::vector<io::JsonRecord> term_forms(const io::JsonRecord& form) {
  const std::vector<io::JsonRecord> forms = form.records("terms");
  if (forms.size() < 2) {
    form.fail("terms", fmt::format("expected two terms or more, found {}", forms.size()));
  }
  return forms;
}

bool is_network(const nlohmann::json& form) { return !form.contains("kind"); }

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const std::vector<io::JsonRecord> forms = term_forms(form_of(layer, weights));
  std::vector<ProjectionPtr> terms;
  for (size_t i = 0; i < forms.size(); ++i) {
    const LayerSpec term{term_name(spec.name, i), spec.out_features, spec.in_features};
    const nlohmann::json& form = layer.form["terms"][i];
    const StoredLayer stored{term, form};
    terms.push_back(is_network(form) ? kMpoKind.load({&stored, 1}, weights)
                                     : load_layer(stored, weights));
  }
  return std::make_shared<SumProjection>(spec.name, std::move(terms), load_bias(spec, weights));
}

int64_t parameters_of(const NetworkShape& network) {
  const tn::SiteShape shape{network.out_dims, network.in_dims};
  return network.fixed_gauge ? tn::gauge_fixed_parameter_count(shape, network.bonds)
                             : tn::parameter_count(shape, network.bonds);
}

WeightDescription describe(const io::JsonRecord& form, const std::string& name,
                           const TensorHeaders& tensors) {
  WeightDescription all;
  int64_t parameters = 0;
  bool counted = false;  // by a term, beside its floating numbers
  const std::vector<io::JsonRecord> forms = term_forms(form);
  for (size_t i = 0; i < forms.size(); ++i) {
    WeightDescription term;
    if (forms[i].has("kind")) {
      term = describe_weight(term_name(name, i), forms[i], tensors);
    } else {
      term.networks = {network_shape(forms[i])};
      term.shape = matrix_shape(term.networks.front());
    }
    if (all.shape.empty()) all.shape = term.shape;
    for (const NetworkShape& network : term.networks) {
      parameters += parameters_of(network);
      all.networks.push_back(network);
    }
    counted = counted || term.parameters.has_value();
    parameters += term.parameters.value_or(0);
    if (!term.label.empty()) all.label += (all.label.empty() ? "" : " + ") + term.label;
  }
  if (counted) all.parameters = parameters;
  return all;
}

StoredWeight pack(const std::string& name, const StoredWeight& weight, const PackOptions& options) {
  std::vector<StoredWeight> terms;
  for (size_t i = 0; i < weight.form.at("terms").size(); ++i) {
    const nlohmann::json& form = weight.form["terms"][i];
    const std::string term = term_name(name, i);
    terms.push_back(is_network(form) ? pack_network(term, form, weight, options)
                                     : pack_weight(term, {form, weight.tensors}, options));
  }
  return sum_weight(std::move(terms));
}

}  // namespace

const LayerKind kSumKind = {
    .name = "sum", .load = load_each<load_one>, .describe = describe, .pack = pack};

std::string term_name(const std::string& name, size_t i) {
  return fmt::format("{}.terms.{}", name, i);
}

StoredWeight sum_weight(std::vector<StoredWeight> terms) {
  StoredWeight weight{{{"kind", kSumKind.name}}, {}};
  for (StoredWeight& term : terms) {
    weight.form["terms"].push_back(std::move(term.form));
    std::ranges::move(term.tensors, std::back_inserter(weight.tensors));
  }
  return weight;
}

StoredWeight sum_weight(const std::string& name, const std::vector<tn::Mpo>& terms) {
  std::vector<StoredWeight> stored;
  for (size_t i = 0; i < terms.size(); ++i) {
    stored.push_back({network_form(terms[i]), network_tensors(term_name(name, i), terms[i])});
  }
  return sum_weight(std::move(stored));
}

SumProjection::SumProjection(std::string name, std::vector<ProjectionPtr> terms,
                             std::optional<torch::Tensor> bias)
    : name_(std::move(name)), terms_(std::move(terms)), bias_(std::move(bias)) {
  TORCH_CHECK_VALUE(!terms_.empty(), "[sum] expected one term or more for ", name_, ", got none");
  const int64_t m = terms_.front()->out_features();
  for (const ProjectionPtr& term : terms_) {
    TORCH_CHECK_VALUE(term->out_features() == m, "[sum] expected terms of ", m, " rows for ", name_,
                      ", got one of ", term->out_features());
  }
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == m),
                    "[sum] expected a bias of ", m, " values for ", name_);
}

torch::Tensor SumProjection::apply(const torch::Tensor& x) const {
  torch::Tensor y = terms_.front()->apply(x);
  for (size_t i = 1; i < terms_.size(); ++i) y = y + terms_[i]->apply(x);
  return bias_ ? y + *bias_ : y;
}

kernels::TeamProductPtr SumProjection::team_product(torch::ScalarType dtype) const {
  return kernels::biased(kernels::summed(team_products(terms_, dtype), dtype), bias_, dtype);
}

std::vector<NamedTensor> SumProjection::parameters() const {
  return listed(&Projection::parameters);
}

std::vector<NamedTensor> SumProjection::tensors() const { return listed(&Projection::tensors); }

torch::Tensor SumProjection::weight() const {
  torch::Tensor w = terms_.front()->weight();
  for (size_t i = 1; i < terms_.size(); ++i) w = w + terms_[i]->weight();
  return w;
}

std::vector<NamedTensor> SumProjection::listed(Listing list) const {
  std::vector<NamedTensor> all;
  for (const ProjectionPtr& term : terms_) {
    std::ranges::move(((*term).*list)(), std::back_inserter(all));
  }
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
