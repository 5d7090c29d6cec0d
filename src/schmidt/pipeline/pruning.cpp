#include "schmidt/pipeline/pruning.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "schmidt/compress/neurons.h"
#include "schmidt/pipeline/time_plan.h"
#include "schmidt/plan/layers.h"

namespace schmidt::pipeline {
namespace {

/// How much more pruning costs than it is predicted to, beside integers, whose prediction knows
/// what learning leaves (docs/results.md).
constexpr double kMeasured = 1.7;
constexpr double kPays = 0.9;  // predicted loss with pruning over that without

/// Of the speed that is taken for predicted after a pruning: narrow products are less than as fast
/// as their share says.
constexpr double kCareful = 1.05;

/// Shares of all neurons that are tried.
constexpr double kShares[] = {0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5};

bool is_of_mlp(const plan::Layer& layer) {
  if (layer.block < 0 || layer.members.size() != 1) return false;
  const auto kind = layer.group().kind;
  return kind == model::Group::kGateUp || kind == model::Group::kDown;
}

bool is_down(const plan::Layer& layer) { return layer.group().kind == model::Group::kDown; }

/// The layers of each block's MLP, where all three are among these.
std::map<int64_t, std::vector<plan::Layer>> whole_mlps(const std::vector<plan::Layer>& layers) {
  std::map<int64_t, std::vector<plan::Layer>> blocks;
  for (const plan::Layer& layer : layers) {
    if (is_of_mlp(layer)) blocks[layer.block].push_back(layer);
  }
  std::erase_if(blocks, [](const auto& block) { return block.second.size() != 3; });
  return blocks;
}

Pruning pruning_of(const NeuronCurves& by_block, double share) {
  std::vector<plan::LayerCurve> curves;
  double all = 0.0;
  for (const auto& [block, curve] : by_block) {
    curves.push_back(curve);
    all += static_cast<double>(curve.points.back().parameters);
  }
  const std::vector<size_t> chosen = plan::allocate(curves, std::llround(share * all));
  Pruning pruning;
  for (size_t c = 0; c < curves.size(); ++c) {
    const plan::CurvePoint& point = curves[c].points[chosen[c]];
    const plan::Layer& down = curves[c].layer;
    pruning.loss += kMeasured * point.loss;
    if (point.neurons) pruning.layers.push_back(plan::pruned(down, *point.neurons));
  }
  return pruning;
}

/// The share of its neurons that each block's MLP keeps, where it loses some.
using KeptShares = std::map<int64_t, double>;

KeptShares kept_by(const Pruning& pruning) {
  KeptShares kept;
  for (const plan::LayerPlan& p : pruning.layers) {
    kept[p.layer.block] = static_cast<double>(*p.neurons) / static_cast<double>(p.layer.cols);
  }
  return kept;
}

/// 1 for a layer that no pruning makes smaller.
double share_of(const KeptShares& kept, const plan::Layer& layer) {
  const auto share = is_of_mlp(layer) ? kept.find(layer.block) : kept.end();
  return share == kept.end() ? 1.0 : share->second;
}

/// What a budget's forms are predicted to lose beside a pruning; infinity where it does not reach.
using BoughtLoss = std::function<double(const Pruning& pruning)>;

Pruning cheapest(const NeuronCurves& curves, const BoughtLoss& bought) {
  Pruning best;
  double least = std::numeric_limits<double>::infinity();
  for (Pruning& pruning : possible_prunings(curves)) {
    const double loss = pruning.loss + bought(pruning);
    if (loss >= least) continue;
    least = pruning.layers.empty() ? kPays * loss : loss;
    best = std::move(pruning);
  }
  return best;
}

StepTimes left_by(const KeptShares& kept, const Competition& competition, StepTimes times) {
  for (size_t i = 0; i < competition.layers.size(); ++i) {
    const double share = share_of(kept, competition.layers[i].layer);
    times.dense[i] *= share;
    for (double& seconds : times.forms[i]) seconds *= share;
  }
  return times;
}

}  // namespace

void check_prunable(const model::ModelConfig& config, const std::vector<plan::Layer>& layers) {
  TORCH_CHECK_VALUE(!config.experts && !whole_mlps(layers).empty(),
                    "[mlp] expected MLPs whose gate, up and down are all taken, and no mixture of "
                    "experts, whose neurons are not pruned");
}

NeuronCurves unmeasured_neurons(const std::vector<plan::Layer>& layers) {
  NeuronCurves curves;
  for (const auto& [block, parts] : whole_mlps(layers)) {
    curves.emplace(block, compress::unmeasured_neurons(*std::ranges::find_if(parts, is_down)));
  }
  return curves;
}

NeuronCurves neuron_curves(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                           const calibrate::Statistics& statistics,
                           const compress::MethodOptions& options, const Reporter& reporter) {
  NeuronCurves curves = unmeasured_neurons(layers);
  int64_t done = 0;
  for (auto& [block, curve] : curves) {
    const plan::Layer down = curve.layer;
    if (reporter.progress) {
      reporter.progress(
          {"rank neurons", down.name, done++, static_cast<int64_t>(curves.size()), "blocks"});
    }
    const torch::Tensor w = plan::load_weight(model, down).to(torch::kFloat32);
    curve = compress::neuron_curve(down, w, statistics, options);
  }
  return curves;
}

NeuronCurves in_groups(NeuronCurves curves, int64_t group) {
  for (auto& [block, curve] : curves) {
    std::erase_if(curve.points, [&](const plan::CurvePoint& point) {
      return point.neurons && *point.neurons % group != 0;
    });
  }
  std::erase_if(curves, [](const auto& block) { return block.second.points.size() == 1; });
  return curves;
}

bool has_neurons(const NeuronCurves& curves, const plan::Layer& layer) {
  return is_of_mlp(layer) && curves.contains(layer.block);
}

std::vector<Pruning> possible_prunings(const NeuronCurves& curves) {
  std::vector<Pruning> all(1);
  double smallest = 0.0, whole = 0.0;
  for (const auto& [block, curve] : curves) {
    smallest += static_cast<double>(curve.points.front().parameters);
    whole += static_cast<double>(curve.points.back().parameters);
  }
  for (const double share : kShares) {
    if (share * whole >= smallest && !curves.empty()) all.push_back(pruning_of(curves, share));
  }
  return all;
}

Competition left_by(const Pruning& pruning, Competition competition) {
  const KeptShares kept = kept_by(pruning);
  for (plan::LayerForms& layer : competition.layers) {
    const double share = share_of(kept, layer.layer);
    if (share == 1.0) continue;
    for (plan::Form& form : layer.forms) {
      form.bytes = std::llround(static_cast<double>(form.bytes) * share);
      form.loss *= share;
    }
  }
  return competition;
}

StepTimes left_by(const Pruning& pruning, const Competition& competition, StepTimes times) {
  return left_by(kept_by(pruning), competition, std::move(times));
}

Pruning choose_pruning(const NeuronCurves& curves, const Competition& predicted,
                       const ByteBudget& budget) {
  return cheapest(curves, [&](const Pruning& pruning) {
    return spend(left_by(pruning, predicted), budget).loss;
  });
}

Pruning choose_pruning(const NeuronCurves& curves, const Competition& predicted,
                       const StepTimes& times, double speedup) {
  Pruning best = cheapest(curves, [&](const Pruning& pruning) {
    const Competition left = left_by(pruning, predicted);
    const TimePlanner planner(left, left_by(pruning, predicted, times), times.original());
    const double careful = pruning.layers.empty() ? 1.0 : kCareful;
    return planner.fastest() < careful * speedup ? std::numeric_limits<double>::infinity()
                                                 : planner.plan(speedup).loss;
  });
  best.speedup = times.original() / left_by(best, predicted, times).original();
  return best;
}

double fastest_pruned(const Competition& competition, const StepTimes& times) {
  std::vector<plan::Layer> layers;
  for (const plan::LayerForms& forms : competition.layers) layers.push_back(forms.layer);
  KeptShares kept;
  for (const auto& [block, mlp] : whole_mlps(layers)) kept[block] = std::ranges::min(kShares);
  const TimePlanner planner(competition, left_by(kept, competition, times), times.original());
  return planner.fastest() / kCareful;
}

}  // namespace schmidt::pipeline
