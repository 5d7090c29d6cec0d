#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/plan/allocate.h"

namespace schmidt::compress {

/// Neurons of an MLP, those first that make up best for all others.
struct NeuronOrder {
  std::vector<int64_t> neurons;
  /// losses[k]: tr(B R), R being what the first k neurons leave unexplained of the others (G's
  /// Schur complement): twice the nats a token that a model with these k alone is predicted to
  /// lose. losses[0] is that of none.
  std::vector<double> losses;
};

/// The first `count` of n, found greedily: each lowers the loss the most beside those before it.
/// Some are taken at once where n is large. G [n, n], moments of the neurons, positive definite; B
/// = W^T H W [n, n], of the down projection W and the moments H of the gradient at its outputs.
/// Source: Farahat et al. 2011, "An efficient greedy method for unsupervised feature selection".
NeuronOrder order_neurons(const torch::Tensor& g, const torch::Tensor& b, int64_t count);

/// W' [m, n] with zeros for neurons that are not among `kept`, the least-squares reconstruction of
/// W in the norm of G: W G_k (G_kk)^-1.
torch::Tensor repaired(const torch::Tensor& w, const torch::Tensor& g,
                       const std::vector<int64_t>& kept);

/// The numbers of neurons that are tried for an MLP, by its down projection; costs are the
/// parameters of its three layers, losses 0.
plan::LayerCurve unmeasured_neurons(const plan::Layer& layer);

/// The same with what is lost, by the layer's weight W and finished statistics.
plan::LayerCurve neuron_curve(const plan::Layer& layer, const torch::Tensor& w,
                              const calibrate::Statistics& statistics,
                              const MethodOptions& options);

/// Counts of neurons that are tried are multiples of this, 64 at most, so that rows of the down
/// projection divide into groups of so many integers.
int64_t neuron_step(int64_t neurons);

/// Method `prune` of a down projection: W' with zeros for all but the plan's number of neurons, and
/// the names of those in the form. The neurons leave the checkpoint when it is written.
FittedWeight prune(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                   const MethodOptions& options);

/// Those that such a weight keeps, ascending.
std::vector<int64_t> kept_neurons(const nlohmann::json& form);

}  // namespace schmidt::compress
