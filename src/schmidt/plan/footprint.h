#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/plan/outline.h"
#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// What a model will hold and cost once a plan is carried out. Exact in parameters;
/// nothing here says how good the model will be.
struct Footprint {
  int64_t parameters = 0;         ///< of the whole model
  int64_t tensorized = 0;         ///< of those, in networks
  int64_t tensorized_before = 0;  ///< of the same layers in the original
  int64_t dense_layers = 0;       ///< weights of block layers that stay as they are
  int64_t pivots = 0;             ///< int32 indices beside networks of fixed gauge

  /// Multiplications for one token, of experts by those that it takes, networks contracted in the
  /// cheapest order for a batch of 4096 tokens; of this model and of the original.
  double multiplications = 0.0;
  double multiplications_before = 0.0;

  /// All weights at `bytes_per_scalar`, pivots included.
  double bytes(double bytes_per_scalar) const;
  /// Weights of dense block layers in int4 by groups of 64 with a scale of 16 bits and a zero point
  /// each (4.3125 bits a weight), everything else in 16 bits, as the paper's mixed model.
  double mixed_bytes() const;
  /// Operations of one training token: forward and backward here (6 for each
  /// multiplication), and the teacher's forward pass (2).
  double healing_flops() const { return 6.0 * multiplications + 2.0 * multiplications_before; }
};

Footprint footprint(const Outline& model, const std::vector<LayerPlan>& plan);

/// Keys and values of `context` tokens of one sequence.
double kv_cache_bytes(const model::ModelConfig& config, int64_t context, double bytes_per_scalar);

}  // namespace schmidt::plan
