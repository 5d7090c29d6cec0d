#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/config.h"
#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// The tensors of a model by their names.
using StoredTensors = std::map<std::string, io::TensorSpec>;

/// Those of a model that is all dense, by its config alone; floating numbers in the type that the
/// config names, float32 where it names none.
StoredTensors dense_tensors(const model::ModelConfig& config);

/// The tensors that a planned layer becomes, its bias left out, ascending by name; floating ones
/// in `dtype`, scales in float16 (a weight whose scales leave its normal numbers has them in
/// bfloat16, of the same size). The text beside a weight in NF4 is counted at its longest.
std::vector<io::TensorSpec> planned_tensors(const LayerPlan& plan, torch::ScalarType dtype);

/// What compression by a plan writes of a model with these tensors, in the order of its files:
/// floating numbers that are not planned otherwise in `dtype`, where one is given.
std::vector<io::TensorSpec> written_tensors(const StoredTensors& model,
                                            const std::vector<LayerPlan>& plan,
                                            std::optional<torch::ScalarType> dtype);

}  // namespace schmidt::plan
