#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/pipeline/form_times.h"
#include "schmidt/plan/allocate.h"

namespace schmidt::pipeline {

/// What MLPs lose with fewer neurons, by their blocks; the curves are of their down projections.
using NeuronCurves = std::map<int64_t, plan::LayerCurve>;

/// Throws c10::ValueError where no MLP has all of its three layers among these, or for a mixture of
/// experts.
void check_prunable(const model::ModelConfig& config, const std::vector<plan::Layer>& layers);

/// Of the blocks' MLPs whose three layers are among `layers`, before anything is known: losses are
/// 0.
NeuronCurves unmeasured_neurons(const std::vector<plan::Layer>& layers);

/// The same with what is lost.
NeuronCurves neuron_curves(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                           const calibrate::Statistics& statistics,
                           const compress::MethodOptions& options, const Reporter& reporter);

/// With those numbers of neurons alone that groups of so many columns divide, and without the MLPs
/// that have none.
NeuronCurves in_groups(NeuronCurves curves, int64_t group);

/// Whether a layer shrinks with the neurons of one of these MLPs.
bool has_neurons(const NeuronCurves& curves, const plan::Layer& layer);

/// The forms that a budget is spent on, and how long each takes here where time is spent.
struct Market {
  Competition forms;
  StepTimes times = {};
};

/// Neurons that go before a budget is spent on what is left, and what that is predicted to cost. No
/// layers: none goes.
using Pruning = plan::CurvePlan;

/// Those that are tried, from none to half of all neurons, each the one of its share that is
/// predicted to cost the least.
std::vector<Pruning> possible_prunings(const NeuronCurves& curves);

/// What a pruning leaves: for each neuron forms lose as much and last as long as before. Those that
/// do not fit into what is left of their layer are gone.
Market left_by(const Pruning& pruning, Market market);

/// Planned layers in the sizes that a pruning leaves.
std::vector<plan::LayerPlan> left_by(const Pruning& pruning, std::vector<plan::LayerPlan> plan);

/// The pruning after which a budget of bytes is predicted to lose the least, both losses together,
/// a tenth less than without it: fewer neurons leave the others more bits. No layers where no
/// pruning gains so much.
Pruning choose_pruning(const NeuronCurves& curves, const Market& predicted,
                       const ByteBudget& budget);

/// The same for a budget of time.
Pruning choose_pruning(const NeuronCurves& curves, const Market& predicted, double speedup);

/// What choose_pruning can reach with the fastest forms, where MLPs whose three layers compete may
/// lose half of their neurons.
double fastest_pruned(const Market& market);

}  // namespace schmidt::pipeline
