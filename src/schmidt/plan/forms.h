#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/plan/layers.h"
#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// One form that a layer may take in the new checkpoint.
struct Form {
  std::optional<LayerPlan> plan;  ///< none: the layer stays as it is
  int64_t bytes = 0;              ///< of its tensors in the file, their headers too
  double loss = 0.0;              ///< predicted, in nats a token
};

/// All forms of a layer that compete, in any order; at least one.
struct LayerForms {
  Layer layer;
  std::vector<Form> forms;
};

struct BytePlan {
  std::vector<LayerPlan> layers;  ///< those that stay as they are left out
  int64_t bytes = 0;              ///< of all layers
  double loss = 0.0;              ///< the sum over layers, each changed alone
  int64_t cost = 0;               ///< of all layers, in what the budget counts
};

/// The form of every layer with which all take at most `budget` bytes at the least sum of losses
/// (allocate). Throws c10::ValueError, naming the least that can be had, where the smallest forms
/// take more.
BytePlan plan_bytes(const std::vector<LayerForms>& layers, int64_t budget);

/// The same for a budget of anything that forms cost: costs of each layer's forms, at least 0.
BytePlan plan_costs(const std::vector<LayerForms>& layers,
                    const std::vector<std::vector<int64_t>>& costs, int64_t budget);

/// A form in words: "int4, groups of 64", "rank 32 in int8", "int3, groups of 64 + rank 32 in
/// int8", "rank 32".
std::string form_text(const LayerPlan& plan);

/// Bytes of the layers in their smallest forms.
int64_t least_bytes(const std::vector<LayerForms>& layers);

/// Bytes of a planned layer's tensors with floating numbers of `scalar_bytes`, its bias left out,
/// and at most those of their headers.
int64_t stored_bytes(const LayerPlan& plan, int64_t scalar_bytes);

/// Bytes of all tensors of a checkpoint but those of the names, floating ones in `dtype` where one
/// is given, and at most those of their headers.
int64_t bytes_of_others(const io::Checkpoint& checkpoint, const std::set<std::string>& names,
                        std::optional<torch::ScalarType> dtype);

/// Bytes of a weight that stays as it is.
int64_t dense_bytes(const Layer& layer, int64_t scalar_bytes);

}  // namespace schmidt::plan
