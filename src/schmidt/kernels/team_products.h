#pragma once

#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/nf4_linear.h"
#include "schmidt/kernels/quantized_gemv.h"
#include "schmidt/kernels/team_product.h"

namespace schmidt::kernels {

/// What a member keeps for itself, used by one product after another.
struct TeamScratch {
  Int8Rows rounded;
  std::vector<float> numbers, sums;
  std::vector<uint8_t> legs;  ///< numbers that a contraction reads, in its order
};

/// So that every region of `between` begins at an even number, as kernels read pairs.
inline int64_t even(int64_t numbers) { return numbers + numbers % 2; }

/// Whether team products are the fastest way here: there are vectors for them.
bool team_products_are_fast();

/// W [m, n] as numbers, rows contiguous, in float32 or bfloat16; bias [m] or none.
TeamProductPtr dense_team_product(const torch::Tensor& w, const std::optional<torch::Tensor>& bias);

/// W in integers that suits_int8(), multiplied by x in int8.
TeamProductPtr quantized_team_product(const QuantizedWeight& w, torch::ScalarType dtype);

/// W in NF4. Null where kernels have no dot products for it.
TeamProductPtr nf4_team_product(const Nf4Weight& w, torch::ScalarType dtype);

// Products of several. All are null where one of these is.

/// W = L R: x goes through R first.
TeamProductPtr chained(TeamProductPtr left, TeamProductPtr right, torch::ScalarType dtype);

/// The outputs of several of one x beside each other.
TeamProductPtr side_by_side(std::vector<TeamProductPtr> parts, torch::ScalarType dtype);

/// The sum of their outputs, from left to right, each sum rounded to the dtype.
TeamProductPtr summed(std::vector<TeamProductPtr> terms, torch::ScalarType dtype);

/// Outputs + bias [m] of the dtype, rounded to it, where there is a bias.
TeamProductPtr biased(TeamProductPtr product, const std::optional<torch::Tensor>& bias,
                      torch::ScalarType dtype);

}  // namespace schmidt::kernels
