#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/workers.h"
#include "schmidt/compress/layer_store.h"
#include "schmidt/compress/sequential.h"
#include "schmidt/package/summary.h"
#include "schmidt/plan/plan.h"

namespace schmidt::compress {

struct CompressOptions {
  MethodOptions method;
  std::optional<Calibration> calibration;  ///< needed where a planned method asks for it
  std::optional<torch::ScalarType> dtype;  ///< of everything written; none: as it was read
  calibrate::Workers workers;              ///< share the layers, or the calibration's windows
  bool force = false;                      ///< replace `out`, and drop unfinished work there
  nlohmann::json made_by;                  ///< goes into compression_config: the recipe
};

struct CompressResult {
  std::vector<LayerResult> layers;
  package::ModelSummary summary;  ///< of the new checkpoint
  int64_t resumed = 0;            ///< layers that an earlier, interrupted run had finished
};

/// Throws c10::ValueError for a layer whose method cannot have its shape, or, for method sum, no
/// MPO of `options.sites` sites or too few parameters; for integers that do not exist or do not fit
/// their layer; for a method that is of one process where there are more.
void check_plan(const std::vector<plan::LayerPlan>& plan, const MethodOptions& options,
                int64_t processes = 1);

/// Throws c10::ValueError for a method that is of one process where there are more.
void check_method(const Method& method, int64_t processes);

/// Throws c10::ValueError where a plan prunes an MLP whose gate and up are not dense.
void check_pruned_mlps(const io::Checkpoint& checkpoint, const std::vector<plan::LayerPlan>& plan);

/// Writes a checkpoint folder in which every planned layer has its form and everything else is as
/// it was, but for gate and up of an MLP that is pruned, which have fewer rows. With calibration,
/// layers are worked through in the model's order (compress_in_order); without, one weight is in
/// memory at a time.
///
/// Work goes to `out`.partial: each finished layer is a file there, so a killed run
/// that is started again with the same model and plan goes on where it stopped, by as many
/// workers as it likes. Workers without calibration give the bytes of one; with it they
/// differ in the rounding of sums over the text. The first writes the result, and only its
/// return value is filled.
/// Throws c10::ValueError if `out` exists (and not `force`), if a method lacks its
/// calibration, or if the partial folder belongs to other work; FormatError if a weight
/// holds NaN or infinity; SystemError from the disk. On an error `out` is untouched and the partial
/// folder is kept.
CompressResult compress(const io::Checkpoint& checkpoint, const std::vector<plan::LayerPlan>& plan,
                        const std::filesystem::path& out, const CompressOptions& options,
                        const ProgressFn& progress = {});

}  // namespace schmidt::compress
