#include "schmidt/pipeline/byte_plan.h"

#include <cmath>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace schmidt::pipeline {
namespace {

compress::FormChoice choice_of(const ByteBudget& budget, const plan::Layer& layer,
                               torch::ScalarType as_read) {
  compress::FormChoice choice;
  if (budget.rules.group > 0) choice.groups = {budget.rules.group};
  choice.symmetric = budget.rules.symmetric;
  choice.kinds = budget.rules.kinds;
  choice.method = layer.block < 0 ? kVocabularyMethod : budget.method;
  choice.scalar_bytes = static_cast<int64_t>(c10::elementSize(budget.dtype.value_or(as_read)));
  return choice;
}

}  // namespace

std::vector<std::string> names_of(const compress::FormKinds& kinds) {
  std::vector<std::string> names;
  if (kinds.whole) names.emplace_back("integers");
  if (kinds.low_rank) names.emplace_back("low-rank");
  if (kinds.sums) names.emplace_back("sums");
  return names;
}

compress::FormKinds form_kinds(const std::vector<std::string>& names) {
  compress::FormKinds kinds{false, false, false};
  for (const std::string& name : names) {
    bool* kind = name == "integers"   ? &kinds.whole
                 : name == "low-rank" ? &kinds.low_rank
                 : name == "sums"     ? &kinds.sums
                                      : nullptr;
    TORCH_CHECK_VALUE(kind != nullptr, "[forms] expected integers, low-rank or sums, got ", name);
    *kind = true;
  }
  return kinds;
}

plan::BytePlan Competition::plan(double bytes) const {
  return plan::plan_bytes(layers, static_cast<int64_t>(bytes) - rest);
}

Competition compete(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                    const ByteBudget& budget) {
  Competition competition;
  std::set<std::string> planned;
  for (const plan::Layer& layer : layers) {
    const std::string weight = layer.name + ".weight";
    planned.insert(weight);
    competition.layers.push_back(compress::possible_forms(
        layer, choice_of(budget, layer, model.tensors().at(weight).dtype)));
  }
  competition.rest = plan::bytes_of_others(model, planned, budget.dtype);
  const int64_t least = competition.rest + plan::least_bytes(competition.layers);
  TORCH_CHECK_VALUE(
      static_cast<double>(least) <= budget.bytes, "[size] ",
      fmt::format("{:.2f} MB is out of reach: the smallest forms of the layers take {:.2f} MB",
                  1e-6 * budget.bytes, std::ceil(1e-4 * static_cast<double>(least)) / 100));
  return competition;
}

void predict_losses(Competition& competition, const io::Checkpoint& model,
                    const calibrate::Statistics& statistics,
                    const compress::MethodOptions& options) {
  for (plan::LayerForms& forms : competition.layers) {
    compress::predict_losses(forms, plan::load_weight(model, forms.layer), statistics, options);
  }
}

}  // namespace schmidt::pipeline
