#include "schmidt/pipeline/time_plan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace schmidt::pipeline {
namespace {

/// Forms that take no longer than the fastest one of their layer and so much more are as fast as
/// it: what separates them differs from run to run, and would buy the fewest bits.
constexpr double kAsFast = 1.05;

int64_t nanoseconds(double seconds) { return static_cast<int64_t>(std::llround(1e9 * seconds)); }

}  // namespace

void check_speedup(double speedup, const model::ModelConfig& config) {
  TORCH_CHECK_VALUE(std::isfinite(speedup) && speedup > 1.0,
                    "[plan] expected a speedup above 1, got ", speedup);
  TORCH_CHECK_VALUE(!config.experts,
                    "[speedup] expected a model with one MLP in each block, got a mixture of "
                    "experts: how many tokens an expert works on is not known beforehand");
}

void check_reached(double speedup, double fastest) {
  TORCH_CHECK_VALUE(
      speedup <= fastest, "[speedup] ",
      fmt::format("{:.3g} is out of reach here: the fastest forms of the layers are predicted to "
                  "give {:.2f}",
                  speedup, std::floor(100 * fastest) / 100));
}

TimePlanner::TimePlanner(const Competition& all, StepTimes times)
    : TimePlanner(all, times, times.original()) {}

TimePlanner::TimePlanner(const Competition& all, StepTimes times, double original)
    : all_(&all), times_(std::move(times)), original_(original) {}

plan::BytePlan TimePlanner::plan(double speedup, double reach) const {
  const Priced priced = priced_forms();
  const int64_t fastest = least(priced);
  check_reached(speedup / reach, speedup_at(fastest));
  const double budget = std::floor(1e9 * (original_ / speedup - times_.rest));
  return plan::plan_costs(priced.layers, priced.costs,
                          std::max(fastest, static_cast<int64_t>(budget)));
}

double TimePlanner::speedup_at(int64_t cost) const {
  return original_ / (times_.rest + 1e-9 * static_cast<double>(cost));
}

Frontier TimePlanner::frontier(const std::string& name) const {
  const Priced priced = priced_forms();
  const int64_t first = least(priced), rest = nanoseconds(times_.rest);
  const int64_t last = nanoseconds(times_.original()) - rest;
  Frontier frontier{name, {}};
  for (int i = 0; i < kFrontierPoints && last > first; ++i) {
    const plan::BytePlan bought =
        plan::plan_costs(priced.layers, priced.costs, first + (last - first) * i / kFrontierPoints);
    frontier.points.push_back({bought.cost + rest, bought.loss});
  }
  return frontier;
}

int64_t TimePlanner::least(const Priced& priced) {
  int64_t sum = 0;
  for (const auto& costs : priced.costs) sum += std::ranges::min(costs);
  return sum;
}

TimePlanner::Priced TimePlanner::priced_forms() const {
  Priced priced;
  for (size_t i = 0; i < all_->layers.size(); ++i) {
    const plan::LayerForms& from = all_->layers[i];
    priced.layers.push_back({from.layer, {}});
    priced.costs.emplace_back();
    const double fastest = kAsFast * std::ranges::min(times_.forms[i]);
    for (size_t k = 0; k < from.forms.size(); ++k) {
      const plan::Form& form = from.forms[k];
      const bool slower = times_.forms[i][k] > times_.dense[i];
      if (form.plan && slower) continue;
      const double seconds = form.plan ? std::max(fastest, times_.forms[i][k]) : times_.dense[i];
      priced.layers.back().forms.push_back(form);
      priced.costs.back().push_back(nanoseconds(seconds));
    }
  }
  return priced;
}

}  // namespace schmidt::pipeline
