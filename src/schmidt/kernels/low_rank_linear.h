#pragma once

#include <cstdint>
#include <span>

#include <torch/types.h>

#include "schmidt/kernels/interleave.h"
#include "schmidt/kernels/team_product.h"

namespace schmidt::kernels {

/// A weight [m, n] of rank r: r of its rows are rows of a right factor, the others are made of
/// those.
struct LowRankWeight {
  int64_t begin = 0;                   ///< row of the right factor at which its r rows begin
  torch::Tensor others;                ///< [m - r, r]
  const ColumnOrder* order = nullptr;  ///< which outputs are rows of the right factor
};

/// x [.., n] by weights whose right factors are stacked in right [R, n], beside each other:
/// [.., sum of their m]. Differentiable. It is fastest where every weight's rows begin at an even
/// row.
/// Throws c10::ValueError if sizes, dtypes or devices do not fit.
torch::Tensor low_rank_linear(const torch::Tensor& x, const torch::Tensor& right,
                              std::span<const LowRankWeight> weights);

/// The same for a team, in the dtype of the weights: float32 or bfloat16 on the CPU, rows
/// contiguous. Their orders are kept by the caller. Null where a library's products are faster.
TeamProductPtr low_rank_team_product(const torch::Tensor& right,
                                     std::span<const LowRankWeight> weights);

/// low_rank_linear by a product after the other, on any device.
torch::Tensor low_rank_linear_reference(const torch::Tensor& x, const torch::Tensor& right,
                                        std::span<const LowRankWeight> weights);

}  // namespace schmidt::kernels
