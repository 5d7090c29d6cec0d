#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/form_times.h"
#include "schmidt/plan/layers.h"
#include "schmidt/plan/plan_file.h"
#include "schmidt/plan/uniform.h"

namespace schmidt::pipeline {

/// Where the parameters of a budget go.
enum class Allocation {
  kUniform,      ///< the same share of every layer
  kSensitivity,  ///< to where the spectra of calibration predict the least loss
};

/// What MLPs may lose where sensitivity allocates a share of the parameters, or bytes or time are
/// spent.
enum class MlpForm {
  kLowRank,  ///< no neurons: gate, up and down have forms of their own
  kNeurons,  ///< neurons, the down projection fitted anew to those that are kept
};

/// All that decides what becomes of a model: how far, by what, calibrated on what. One of
/// `keep`, `bytes`, `speedup`, `bond` and `plan` says how far.
struct CompressRecipe {
  std::optional<double> keep;     ///< share of the whole model's parameters, (0, 1]
  std::optional<double> bytes;    ///< of the weights' files, spent on whichever forms lose least
  std::optional<double> speedup;  ///< the model's time here over so much, spent in the same way
  Workload workload;              ///< whose time
  std::optional<int64_t> bond;    ///< of every cut, at least 1
  std::optional<plan::PlanFile> plan;  ///< layer by layer; without the four that follow

  FormRules forms;  ///< for `bytes` and `speedup`
  plan::ShapeChoice shape;
  Allocation allocation = Allocation::kUniform;
  MlpForm mlp = MlpForm::kLowRank;
  /// Neurons that go before all else, where that is decided: `plan` is then of what is left.
  std::vector<plan::LayerPlan> pruning;
  bool share_inputs = false;       ///< q, k, v and gate, up each as one layer
  plan::LayerSelection selection;  ///< which layers

  std::string method;  ///< of all layers; empty: each planned layer's own
  compress::MethodOptions fit;
  CalibrationText text;                    ///< read where a method needs it
  std::optional<torch::ScalarType> dtype;  ///< of what is written; none: as it was read

  /// Whether the predicted losses of all forms decide.
  bool buys_forms() const { return bytes || speedup; }
};

/// The methods at work, each once.
std::vector<const compress::Method*> methods_of(const CompressRecipe& recipe);

/// What the methods need together.
struct Needs {
  bool inputs = false, gradient = false, outputs = false;
};
Needs needs_of(const std::vector<const compress::Method*>& methods);

/// What compression_config.made_by records: all of it. Of a speedup, which is another on another
/// machine, the plan that came of it has to be recorded in its place.
nlohmann::json to_json(const CompressRecipe& recipe);

/// The same recipe again, which makes the same weights of the same model.
/// Throws FormatError, naming `path` and the key, for what is missing or mistyped.
CompressRecipe parse_compress_recipe(const nlohmann::json& made_by, const io::Checkpoint& model,
                                     const std::filesystem::path& path);

/// The recipe by which the checkpoint folder `compressed` was made of `model`.
/// Throws FormatError if it was not, or by several compressions.
CompressRecipe recorded_recipe(const io::Checkpoint& compressed, const io::Checkpoint& model);

}  // namespace schmidt::pipeline
