#include "schmidt/pipeline/byte_plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace schmidt::pipeline {
namespace {

constexpr compress::FormKinds kAllKinds{true, true, true};
constexpr compress::FormKinds kIntegersAlone{};
constexpr double kRanksPay = 0.7;         // predicted loss with ranks over that without
constexpr double kIntegersSuffice = 0.5;  // nats a token

compress::FormChoice choice_of(const ByteBudget& budget, const plan::Layer& layer,
                               torch::ScalarType as_read) {
  compress::FormChoice choice;
  if (budget.rules.group > 0) choice.groups = {budget.rules.group};
  choice.symmetric = budget.rules.symmetric;
  choice.kinds = budget.rules.kinds.value_or(kAllKinds);
  choice.method = layer.block < 0 ? kVocabularyMethod : budget.method;
  choice.scalar_bytes = static_cast<int64_t>(c10::elementSize(budget.dtype.value_or(as_read)));
  return choice;
}

/// "37.42 MB", "17.32 kB" below a megabyte; one that `has_to_hold` so many bytes is rounded up.
std::string size_text(double bytes, bool has_to_hold) {
  const bool small = bytes < 1e6;
  const double number = bytes / (small ? 1e3 : 1e6);
  return fmt::format("{:.2f} {}", has_to_hold ? std::ceil(100 * number) / 100 : number,
                     small ? "kB" : "MB");
}

}  // namespace

std::vector<std::string> names_of(const std::optional<compress::FormKinds>& kinds) {
  if (!kinds) return {"auto"};
  std::vector<std::string> names;
  if (kinds->whole) names.emplace_back("integers");
  if (kinds->low_rank) names.emplace_back("low-rank");
  if (kinds->sums) names.emplace_back("sums");
  if (kinds->factors) names.emplace_back("factors");
  return names;
}

std::optional<compress::FormKinds> form_kinds(const std::vector<std::string>& names) {
  if (names == std::vector<std::string>{"auto"}) return std::nullopt;
  compress::FormKinds kinds{false, false, false};
  for (const std::string& name : names) {
    bool* kind = name == "integers"   ? &kinds.whole
                 : name == "low-rank" ? &kinds.low_rank
                 : name == "sums"     ? &kinds.sums
                 : name == "factors"  ? &kinds.factors
                                      : nullptr;
    TORCH_CHECK_VALUE(kind != nullptr,
                      "[forms] expected auto alone, or integers, low-rank, sums and factors, got ",
                      name);
    *kind = true;
  }
  return kinds;
}

plan::BytePlan Competition::plan(double bytes) const {
  return plan::plan_bytes(layers, static_cast<int64_t>(bytes) - rest);
}

Competition Competition::narrowed(const compress::FormKinds& kinds) const {
  const auto takes = [&](const plan::LayerPlan& p) {
    if (!p.is_rounded()) return kinds.factors;
    return p.integers ? (p.factor_integers ? kinds.sums : kinds.whole) : kinds.low_rank;
  };
  Competition narrow{{}, rest};
  for (const plan::LayerForms& layer : layers) {
    narrow.layers.push_back({layer.layer, {}});
    std::ranges::copy_if(layer.forms, std::back_inserter(narrow.layers.back().forms),
                         [&](const plan::Form& form) {
                           return !form.plan || layer.layer.block < 0 || takes(*form.plan);
                         });
  }
  return narrow;
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
  const int64_t least = competition.least_bytes();
  TORCH_CHECK_VALUE(static_cast<double>(least) <= budget.bytes, "[size] ",
                    fmt::format("{} is out of reach: the smallest forms of the layers take {}",
                                size_text(budget.bytes, /*has_to_hold=*/false),
                                size_text(static_cast<double>(least), /*has_to_hold=*/true)));
  return competition;
}

void predict_losses(Competition& competition, const io::Checkpoint& model,
                    const calibrate::Statistics& statistics,
                    const compress::MethodOptions& options) {
  for (plan::LayerForms& forms : competition.layers) {
    compress::predict_losses(forms, plan::load_weight(model, forms.layer), statistics, options);
  }
}

plan::BytePlan spend(const Competition& predicted, const ByteBudget& budget) {
  if (budget.rules.kinds) return predicted.narrowed(*budget.rules.kinds).plan(budget.bytes);
  const Competition integers = predicted.narrowed(kIntegersAlone);
  plan::BytePlan all = predicted.plan(budget.bytes);
  if (static_cast<double>(integers.least_bytes()) > budget.bytes) return all;
  plan::BytePlan whole = integers.plan(budget.bytes);
  return all.loss < kRanksPay * whole.loss ? all : whole;
}

plan::BytePlan buy(Competition& competition, const ByteBudget& budget, const io::Checkpoint& model,
                   const calibrate::Statistics& statistics,
                   const compress::MethodOptions& options) {
  if (!budget.rules.kinds) {
    Competition integers = competition.narrowed(kIntegersAlone);
    if (static_cast<double>(integers.least_bytes()) <= budget.bytes) {
      predict_losses(integers, model, statistics, options);
      plan::BytePlan whole = integers.plan(budget.bytes);
      if (whole.loss < kIntegersSuffice) return whole;
    }
  }
  predict_losses(competition, model, statistics, options);
  return spend(competition, budget);
}

}  // namespace schmidt::pipeline
