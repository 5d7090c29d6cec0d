#pragma once

#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/pipeline/quantize_recipe.h"
#include "schmidt/plan/outline.h"
#include "schmidt/plan/plan.h"

namespace schmidt::pipeline {

/// A model that does not exist yet, by the shapes of what is to be made of another: all that the
/// stages of a run ask of it before they run.
struct ModelForecast {
  plan::Outline outline;  ///< layers that will still be dense, tensors as they will be written
  double bytes = 0.0;     ///< of all weights' files
  /// Multiplications for a token; none where the forms of the layers are unknown.
  std::optional<double> multiplications;
};

/// A model that is there. Throws as plan::open_outline.
ModelForecast forecast_of(const plan::Outline& model);

/// What compression by a plan makes of a model, exactly as `plan` counts bytes; floating numbers
/// in `dtype`, where one is given.
ModelForecast forecast_compressed(const ModelForecast& model,
                                  const std::vector<plan::LayerPlan>& plan,
                                  std::optional<torch::ScalarType> dtype);

/// The same of quantization; none where `selection` names low ranks too, whose integers are not
/// known by shapes alone.
std::optional<ModelForecast> forecast_quantized(const ModelForecast& model,
                                                const QuantizeRecipe& recipe);

/// Memory of a loaded model, floating numbers in `dtype`, with what loading takes beside them
/// (kLoadedShare).
double loaded_bytes(const plan::Outline& model, torch::ScalarType dtype);

/// Memory of healing without activations: value, float32 master, gradient and two moments of every
/// number that is trained (no dense embedding or head), and the teacher.
double healing_bytes(const plan::Outline& student, const plan::Outline* teacher,
                     torch::ScalarType dtype);

/// Operations that a token of calibration takes whose moments are measured for every layer: those
/// of its inputs, forward, and where `gradient` those of its outputs' gradients too, forward and
/// back. None where the model's multiplications are unknown.
std::optional<double> calibration_flops(const ModelForecast& model, bool gradient);

}  // namespace schmidt::pipeline
