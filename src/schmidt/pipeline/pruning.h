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

/// Fewer neurons, before a budget is spent on what is left.
struct Pruning : plan::CurvePlan {  ///< no layers: no MLP loses any
  double speedup = 1.0;             ///< that it alone is predicted to bring, of a workload
};

/// Those that are tried, from none to half of all neurons, each the one of its share that is
/// predicted to cost the least.
std::vector<Pruning> possible_prunings(const NeuronCurves& curves);

/// The forms of what a pruning leaves: for each neuron they take and lose as much as before.
Competition left_by(const Pruning& pruning, Competition competition);
/// How long they take; products are taken to last as long for each neuron.
StepTimes left_by(const Pruning& pruning, const Competition& competition, StepTimes times);

/// The pruning after which a budget of bytes is predicted to lose the least, both losses together,
/// a tenth less than without it: fewer neurons leave the others more bits. No layers where no
/// pruning gains so much.
Pruning choose_pruning(const NeuronCurves& curves, const Competition& predicted,
                       const ByteBudget& budget);

/// The same for a budget of time.
Pruning choose_pruning(const NeuronCurves& curves, const Competition& predicted,
                       const StepTimes& times, double speedup);

/// What choose_pruning can reach with the fastest forms, where MLPs whose three layers compete keep
/// the fewest neurons that are tried.
double fastest_pruned(const Competition& competition, const StepTimes& times);

}  // namespace schmidt::pipeline
