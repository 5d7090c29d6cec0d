#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/file_lock.h"
#include "schmidt/base/progress.h"
#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/diagonal_fisher.h"
#include "schmidt/calibrate/gradient_moments.h"
#include "schmidt/calibrate/row_fisher.h"
#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/calibrate/workers.h"
#include "schmidt/plan/layers.h"

namespace schmidt::calibrate {

struct LayerStatistics {
  GradientMoments gradient;
  /// Squared singular values of H^{1/2} W G^{1/2}, descending, [min(m, n)] float64:
  /// half the sum of those dropped is the predicted KL divergence in nats a token.
  torch::Tensor squares;
};

struct StatisticsOptions {
  int64_t batch = 8;              ///< windows in one step
  double damping = 0.05;          ///< of H, relative to the mean of its diagonal
  uint64_t seed = 0;              ///< of the tokens drawn from the model
  bool outputs = false;           ///< also H itself, of layers of at most kJudgedOutputs outputs
  bool force = false;             ///< drop what other work has left in the folder
  ActivationOptions activations;  ///< where they lie, and what a kill may cost
  Workers workers;                ///< share the windows; another number may finish the work
};

/// H [m, m] of more outputs than this would outgrow the block it belongs to.
constexpr int64_t kJudgedOutputs = 4096;

/// What a model's layers do on calibration text, kept in a folder: one file for each
/// block and, while the work is under way, what does not fit in memory of the residual stream
/// between blocks, and the last saved place. Made by one forward and one backward pass with one
/// block in memory at a time. A killed run goes on at the block it was in, to the same bytes;
/// what it had computed since the saved place is computed again.
class Statistics {
 public:
  /// Collects what `folder` lacks. windows int64 [windows, t]; no layers twice. Several
  /// workers differ from one in the rounding of their float32 sums.
  /// Throws c10::ValueError if the folder was made from another model, other layers,
  /// windows or options (and not `force`), or holds anything else, or another process collects
  /// there, or windows do not fit the model; SystemError from the disk.
  /// The folder is locked for this process: while it collects, and against changes as long as
  /// the statistics are read.
  static Statistics collect(const io::Checkpoint& checkpoint, const StreamedModel& model,
                            const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                            const std::filesystem::path& folder, const StatisticsOptions& options,
                            const ProgressFn& progress = {});

  /// Finished statistics of a model, as they were collected. Throws c10::ValueError if the folder
  /// holds none, or those of another model.
  static Statistics open(const std::filesystem::path& folder, const io::Checkpoint& checkpoint);

  /// All throw c10::ValueError for a layer that was not among those collected.
  LayerStatistics of(const plan::Layer& layer) const;
  torch::Tensor squares(const plan::Layer& layer) const;  ///< alone
  /// G = E[x x^T] [n, n], float32, of the inputs that it shares with the layers of its group.
  torch::Tensor inputs(const plan::Layer& layer) const;

  /// Of a layer, or of the embedding or output layer (block -1). A tied pair has both uses in it.
  DiagonalFisher diagonal(const plan::Layer& layer) const;
  /// Of the embedding or the output layer alone.
  RowFisher rows(const plan::Layer& layer) const;

  /// Those, of blocks that mix experts, whose layers no token of the text has met.
  int64_t idle_experts() const;

  /// Of model, layers, windows and options together.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  Statistics(std::filesystem::path folder, std::string fingerprint,
             const model::ModelConfig& config, std::optional<FileLock> lock);

  /// Tensors of that prefix of the layer's block; throws as `of`.
  std::map<std::string, torch::Tensor> load(const plan::Layer& layer,
                                            const std::string& prefix) const;
  RowFisher load_rows(int64_t block, const std::string& name) const;

  std::filesystem::path folder_;
  std::string fingerprint_;
  int64_t blocks_;
  std::string embedding_;         // its name
  bool tied_;                     // the output layer is the embedding
  std::optional<FileLock> lock_;  // none of a worker that leaves it to the first
};

}  // namespace schmidt::calibrate
