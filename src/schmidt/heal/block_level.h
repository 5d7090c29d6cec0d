#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/heal/adamw.h"
#include "schmidt/heal/batch.h"
#include "schmidt/heal/parameters.h"
#include "schmidt/heal/run_log.h"
#include "schmidt/heal/save_points.h"
#include "schmidt/heal/team.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"

namespace schmidt::heal {

/// Retraining block by block, the second level of the ladder: block f_l, reading what
/// the healed blocks before it make of a text, is to write what the original's block
/// writes,
///
///   min  mean over tokens of  |h_{l+1} - f_l(h'_l)|^2 / |h_{l+1}|^2
///
/// Relative to each token's own size, since a few tokens (the first of a row above all) are
/// orders of magnitude larger than the rest and would be all that counts.
struct BlockLevelOptions {
  int64_t epochs = 1;           ///< passes of each block over the text
  double learning_rate = 1e-4;  ///< peak
  // A healing sets these as the model level has them.
  double warmup = 0.1;
  double clip = 1.0;
  AdamWOptions adamw;
  TrainedParts trained;                      ///< `embedding` says nothing here
  calibrate::ActivationOptions activations;  ///< where they lie; finished blocks are what is saved
};

struct BlockResult {
  int64_t block = 0;
  double error_before = 0.0;  ///< relative squared error, mean over tokens
  double error_after = 0.0;
};

struct BlockLevelRun {
  Team& team;  ///< all of its ranks share the rows of each batch, whatever their stage
  const io::Checkpoint& student;
  const io::Checkpoint& teacher;
  model::LoadOptions load;  ///< dtype and device of the computation
  /// The text, a batch each step. A rank keeps the activations of its rows at one place: in memory
  /// as far as they fit.
  const std::vector<Batch>& batches;
  /// Finished blocks, and the state of the one at work, so that a killed run goes on there.
  std::filesystem::path folder;
  RunLog& log;              ///< written by the rank that leads, as the folder is
  SavePoints& save_points;  ///< asked before each block and each step
  ProgressFn progress;
};

/// All blocks in turn, one of each model in memory; false if interrupted. The trained
/// tensors come to lie in the folder, one file for each block that has any. Blocks that it
/// holds are not trained again, and one that a run was stopped in goes on from its last
/// saved state. A block that the training made worse keeps its start. The tensors are those
/// of one rank alone to rounding.
/// Throws c10::ValueError if the two models do not fit each other; FormatError, SystemError,
/// parallel::LostRank.
bool heal_blocks(const BlockLevelRun& run, const BlockLevelOptions& options);

/// Where heal_blocks leaves what it trained of a block, for TrainedTensors.
std::filesystem::path healed_block(const std::filesystem::path& folder, int64_t block);
bool is_healed_block(const std::filesystem::path& path);

}  // namespace schmidt::heal
