#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <torch/types.h>

#include "schmidt/convert/stored_groups.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"

namespace schmidt::convert {

/// A layer of a block, or a group stored as one, whose weight is a sum of a weight of full size
/// and a low rank, which is what an adapter adds to a base model:
///
///     W [m, n] = base + B A,   B [m, r],  A [r, n]
struct LowRankGroup {
  StoredGroup group;
  std::vector<StoredGroup> base;       ///< the terms of full size, under names of their own
  std::vector<StoredGroup> low_ranks;  ///< the others
  int64_t rank = 0;                    ///< r, of all low ranks together
};

/// The sums among the layers of a model's blocks that have terms of both kinds. `path` is for
/// messages. Throws FormatError for a form that does not fit its kind.
std::vector<LowRankGroup> low_rank_groups(const model::ModelConfig& config,
                                          const std::filesystem::path& path);

/// Both factors in float32, of low ranks in networks balanced: their columns and rows are of one
/// size. Throws FormatError.
struct LowRankFactors {
  torch::Tensor b;  // [m, r]
  torch::Tensor a;  // [r, n]
};
LowRankFactors load_low_rank(const io::Checkpoint& checkpoint, const LowRankGroup& group);

}  // namespace schmidt::convert
