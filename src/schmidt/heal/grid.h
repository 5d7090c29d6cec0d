#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/io/checkpoint.h"

namespace schmidt::heal {

/// Ranks as D replicas of a pipeline of S stages:
///
///               stage 0   ..   stage S-1
///   replica 0   rank 0         rank S-1      a row: one pipeline, neighbours pass activations
///   replica 1   rank S         rank 2S-1
///   ..                                       a column: one part of the model, which sums
///   replica D-1                rank DS-1     gradients and shares an optimizer
struct Grid {
  int64_t replicas = 1, stages = 1;
  int64_t replica = 0, stage = 0;       ///< of this rank
  std::vector<int64_t> pipeline = {0};  ///< this rank's row
  std::vector<int64_t> data = {0};      ///< this rank's column

  bool first() const { return stage == 0; }
  bool last() const { return stage == stages - 1; }
};

/// Throws c10::ValueError if `stages` does not divide the number of ranks.
Grid make_grid(int64_t rank, int64_t ranks, int64_t stages);

/// Cuts blocks into runs, one for each stage, so that the largest sum of `work` is as small
/// as can be: stage s holds [cuts[s], cuts[s + 1]), one block or more.
/// Throws c10::ValueError if there are fewer blocks than stages.
std::vector<int64_t> cut_blocks(const std::vector<double>& work, int64_t stages);

/// Stored parameters of each block, about its multiplications for a token; the output
/// layer's with the last.
std::vector<double> block_work(const io::Checkpoint& checkpoint);

}  // namespace schmidt::heal
