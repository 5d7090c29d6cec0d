#pragma once

#include <cstdint>
#include <span>

#include "schmidt/quant/block.h"
#include "schmidt/quant/group_fit.h"

namespace schmidt::quant {

// How the encoders of Q2_K to Q6_K put the groups of a block together, as ggml's reference: each
// group was fitted alone; its scale, and its minimum, become whole steps of the largest; its codes
// are found again for what is left of them.

constexpr int kBlockValues = 256, kMostGroups = 16;

/// v = d s_g q - dmin m_g, q in 0 .. most, s and m in 0 .. steps.
struct BlockFitWithMinima {
  Float16 d, dmin;
  int scales[kMostGroups], minima[kMostGroups];
  uint8_t codes[kBlockValues];
};
BlockFitWithMinima fit_block(const float* values, std::span<const MinimumFit> groups, int steps,
                             int most);

/// v = d s_g (q - half), q in 0 .. 2 half - 1, s in -steps .. steps - 1.
struct CentredBlockFit {
  float largest = 0;  ///< of the groups' scales, in magnitude, with its sign
  Float16 d;
  int scales[kMostGroups];
  uint8_t codes[kBlockValues];
};
CentredBlockFit fit_block(const float* values, std::span<const CentredFit> groups, int steps,
                          int half);

}  // namespace schmidt::quant
