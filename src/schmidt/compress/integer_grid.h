#pragma once

#include <optional>

#include <torch/types.h>

#include "schmidt/model/quantized_matrix.h"
#include "schmidt/quant/integer_format.h"

namespace schmidt::compress {

/// Between which numbers the codes of each group reach.
struct GroupRange {
  torch::Tensor low, high;  ///< float32 [m, n / group], low <= 0 <= high
};

/// The least and the largest number of each group of W [m, n], 0 between them.
GroupRange range_of(const torch::Tensor& w, const quant::IntegerFormat& format);

/// Scales and zero points of the groups of a matrix.
struct IntegerGrid {
  quant::IntegerFormat format;
  torch::Tensor scales;  ///< float32 [m, groups], numbers of the type that will be stored; above 0
  torch::Tensor zeros;   ///< float32 [m, groups], whole numbers in 0 .. 2^bits - 1
};

/// As compressed-tensors sets them: from the lowest to the highest code in even steps, or where
/// symmetric so that the largest magnitude is half a step beyond the highest. `stored` is the
/// type of scales in the file.
IntegerGrid grid_of(const GroupRange& range, const quant::IntegerFormat& format,
                    torch::ScalarType stored);

/// The nearest codes of W + offset s, float32 [m, n]; no `offset` where it is undefined.
torch::Tensor nearest_codes(const torch::Tensor& w, const IntegerGrid& grid,
                            const torch::Tensor& offset = {});

/// s (q - z) [m, n].
torch::Tensor numbers_of(const torch::Tensor& codes, const IntegerGrid& grid);

model::QuantizedMatrix packed(const torch::Tensor& codes, const IntegerGrid& grid,
                              torch::ScalarType stored);

/// The range, drawn in at both ends by the same share, at which rounding to the nearest leaves
/// the least sum of c_j (W_ij - W'_ij)^2 in each group; c [n], none: 1.
GroupRange searched_range(const torch::Tensor& w, const quant::IntegerFormat& format,
                          torch::ScalarType stored, const torch::Tensor& column_weights,
                          int tries = 20);

/// How ranges are searched.
struct RangeSearch {
  torch::Tensor column_weights = {};  ///< c [n]; undefined: 1
  int tries = 20;
};

/// The grid of W's groups, their scales in scale_type: from the least to the largest number, or
/// of searched_range.
IntegerGrid grid_for(const torch::Tensor& w, const quant::IntegerFormat& format,
                     const std::optional<RangeSearch>& search);

/// W in the nearest numbers of that grid, float32.
torch::Tensor rounded(const torch::Tensor& w, const quant::IntegerFormat& format,
                      const std::optional<RangeSearch>& search);

/// The type of 16 bits that scales of W are stored in: float16, or bfloat16 where they leave its
/// normal numbers.
torch::ScalarType scale_type(const torch::Tensor& w, const quant::IntegerFormat& format);

}  // namespace schmidt::compress
