#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/model.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/profile/metric.h"
#include "schmidt/profile/profile_file.h"

namespace schmidt::profile {

struct ProfileOptions {
  Setting setting = Setting::kKeep;
  std::vector<double> settings = {0.1, 0.2, 0.35, 0.5, 0.75};  ///< ascending, see Setting
  plan::ShapeChoice shape;
  std::string method = "tt-svd";                      ///< a name of compress::methods
  compress::MethodOptions factorize;                  ///< drift does not occur: each layer is alone
  std::string metric = "kl";                          ///< a name of metrics
  const calibrate::Statistics* statistics = nullptr;  ///< for methods that need the gradient
  const eval::MultipleChoice* questions = nullptr;    ///< of the task that is the metric
  int64_t batch = 4;                                  ///< windows in one step
  calibrate::ActivationOptions activations;           ///< where they lie; points are what is saved
  bool force = false;                                 ///< drop unfinished work of another recipe
  nlohmann::json made_by;                             ///< goes into the profile
};

/// Throws c10::ValueError where the method cannot have these layers at these settings: what
/// measure_profile would find too, known before any text is read.
void check_points(const std::vector<plan::Layer>& layers, const ProfileOptions& options);

/// Replaces each of `layers` alone, at each setting, and measures what the model loses:
///
///   text -> block 0 -> .. -> block b up to the layer's inputs -> the layer, changed -> .. ->
///   metric
///           \_____ once, for all points of layers with these inputs _____/
///
/// A layer of block b reads what the original has there; only what comes after is run for a
/// point. In memory: the model and, as far as they fit, the text's hidden states at block b,
/// [windows, t, hidden], at the layer's inputs and after the last block.
/// Where the metric is a task, its questions go that way, and the windows only as far as
/// methods need the inputs of layers.
///
/// The ranks of mpirun share the points; all return the same profile. Each finished
/// point is kept in `folder`, so that a killed run goes on where it stopped, to the
/// same bytes: points do not depend on each other. The caller removes `folder`.
/// windows int64 [windows, t]; undefined where neither metric nor method reads text.
/// Throws c10::ValueError if options, layers or windows do not fit the model, or the
/// folder holds other work; SystemError from the disk.
Profile measure_profile(const io::Checkpoint& checkpoint, const model::Model& model,
                        const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                        const ProfileOptions& options, const std::filesystem::path& folder,
                        const ProgressFn& progress = {});

}  // namespace schmidt::profile
