#include "schmidt/pipeline/pruning.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "schmidt/compress/neurons.h"
#include "schmidt/pipeline/time_plan.h"
#include "schmidt/plan/forms.h"
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

/// The neurons that each block's MLP keeps, where it loses some.
std::map<int64_t, int64_t> kept_by(const Pruning& pruning) {
  std::map<int64_t, int64_t> kept;
  for (const plan::LayerPlan& p : pruning.layers) kept[p.layer.block] = *p.neurons;
  return kept;
}

/// A layer in the size that so many neurons of its MLP leave.
plan::Layer left_of(plan::Layer layer, int64_t neurons) {
  (is_down(layer) ? layer.cols : layer.rows) = neurons;
  return layer;
}

/// A form of a layer of which this is left; none where it does not fit.
std::optional<plan::Form> left_of(plan::Form form, const plan::Layer& whole,
                                  const plan::Layer& left) {
  constexpr int64_t kScalarBytes = 2;
  const double share = static_cast<double>(left.numel()) / static_cast<double>(whole.numel());
  form.loss *= share;
  double of_bytes = share;
  if (form.plan) {
    plan::LayerPlan small = *form.plan;
    small.layer = left;
    small.shape = tn::low_rank_shape(left.rows, left.cols);
    const auto divides = [&](const std::optional<quant::IntegerFormat>& integers) {
      return !integers || left.cols % integers->group == 0;
    };
    const bool has_rank = small.factor_integers || !small.is_rounded();
    const bool fits = !has_rank || small.rank() < std::min(left.rows, left.cols);
    if (!fits || !divides(small.integers) || !divides(small.factor_integers)) return std::nullopt;
    of_bytes = static_cast<double>(plan::stored_bytes(small, kScalarBytes)) /
               static_cast<double>(plan::stored_bytes(*form.plan, kScalarBytes));
  }
  form.bytes = std::llround(static_cast<double>(form.bytes) * of_bytes);
  return form;
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

Market left_by(const Pruning& pruning, Market market) {
  const auto kept = kept_by(pruning);
  for (size_t i = 0; i < market.forms.layers.size(); ++i) {
    plan::LayerForms& layer = market.forms.layers[i];
    const auto neurons = is_of_mlp(layer.layer) ? kept.find(layer.layer.block) : kept.end();
    if (neurons == kept.end()) continue;
    const plan::Layer left = left_of(layer.layer, neurons->second);
    const double share =
        static_cast<double>(left.numel()) / static_cast<double>(layer.layer.numel());
    const bool timed = !market.times.forms.empty();
    std::vector<plan::Form> forms;
    std::vector<double> times;
    for (size_t k = 0; k < layer.forms.size(); ++k) {
      const auto form = left_of(layer.forms[k], layer.layer, left);
      if (!form) continue;
      forms.push_back(*form);
      if (timed) times.push_back(share * market.times.forms[i][k]);
    }
    layer.forms = std::move(forms);
    if (!timed) continue;
    market.times.forms[i] = std::move(times);
    market.times.dense[i] *= share;
  }
  return market;
}

std::vector<plan::LayerPlan> left_by(const Pruning& pruning, std::vector<plan::LayerPlan> plan) {
  const auto kept = kept_by(pruning);
  for (plan::LayerPlan& p : plan) {
    const auto neurons = is_of_mlp(p.layer) ? kept.find(p.layer.block) : kept.end();
    if (neurons == kept.end()) continue;
    const bool low_rank = p.shape == tn::low_rank_shape(p.layer.rows, p.layer.cols);
    p.layer = left_of(p.layer, neurons->second);
    if (low_rank) p.shape = tn::low_rank_shape(p.layer.rows, p.layer.cols);
  }
  return plan;
}

Pruning choose_pruning(const NeuronCurves& curves, const Market& predicted,
                       const ByteBudget& budget) {
  return cheapest(curves, [&](const Pruning& pruning) {
    return spend(left_by(pruning, predicted).forms, budget).loss;
  });
}

Pruning choose_pruning(const NeuronCurves& curves, const Market& predicted, double speedup) {
  return cheapest(curves, [&](const Pruning& pruning) {
    const Market left = left_by(pruning, predicted);
    const TimePlanner planner(left.forms, left.times, predicted.times.original());
    const double careful = pruning.layers.empty() ? 1.0 : kCareful;
    return planner.fastest() < careful * speedup ? std::numeric_limits<double>::infinity()
                                                 : planner.plan(speedup).loss;
  });
}

double fastest_pruned(const Market& market) {
  constexpr int64_t kGroup = 128;
  std::vector<plan::Layer> layers;
  for (const plan::LayerForms& forms : market.forms.layers) layers.push_back(forms.layer);
  Pruning half;
  for (const auto& [block, mlp] : whole_mlps(layers)) {
    const plan::Layer& down = *std::ranges::find_if(mlp, is_down);
    const int64_t kept = down.cols / 2;
    half.layers.push_back(plan::pruned(down, kept < kGroup ? kept : kept - kept % kGroup));
  }
  const Market left = left_by(half, market);
  const double original = market.times.original();
  return std::max(TimePlanner(market.forms, market.times).fastest(),
                  TimePlanner(left.forms, left.times, original).fastest() / kCareful);
}

}  // namespace schmidt::pipeline
