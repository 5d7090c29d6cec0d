#include "schmidt/compress/integer_grid.h"

#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

namespace schmidt::compress {
namespace {

torch::Tensor in_groups(const torch::Tensor& w, const quant::IntegerFormat& format) {
  return w.unflatten(1, {-1, format.group});
}

/// Of groups of zeros, whose scale says nothing.
constexpr double kNoScale = 1.0;

}  // namespace

GroupRange range_of(const torch::Tensor& w, const quant::IntegerFormat& format) {
  const torch::Tensor groups = in_groups(w.to(torch::kFloat32), format);
  return {groups.amin(-1).clamp_max(0), groups.amax(-1).clamp_min(0)};
}

IntegerGrid grid_of(const GroupRange& range, const quant::IntegerFormat& format,
                    torch::ScalarType stored) {
  const double steps = format.levels() - 1;
  const torch::Tensor width =
      format.symmetric ? at::maximum(range.high, range.low.neg()) * 2 : range.high - range.low;
  torch::Tensor scales = (width / steps).to(stored).to(torch::kFloat32);
  scales = at::where(scales > 0, scales, at::full_like(scales, kNoScale));
  const torch::Tensor zeros = format.symmetric ? at::full_like(scales, format.middle())
                                               : (range.low.neg() / scales).round().clamp(0, steps);
  return {format, scales, zeros};
}

torch::Tensor nearest_codes(const torch::Tensor& w, const IntegerGrid& grid,
                            const torch::Tensor& offset) {
  torch::Tensor codes = in_groups(w.to(torch::kFloat32), grid.format) / grid.scales.unsqueeze(-1);
  if (offset.defined()) codes += in_groups(offset, grid.format);
  codes = (codes + grid.zeros.unsqueeze(-1)).round_().clamp_(0, grid.format.levels() - 1);
  return codes.flatten(1);
}

torch::Tensor numbers_of(const torch::Tensor& codes, const IntegerGrid& grid) {
  return ((in_groups(codes, grid.format) - grid.zeros.unsqueeze(-1)) * grid.scales.unsqueeze(-1))
      .flatten(1);
}

model::QuantizedMatrix packed(const torch::Tensor& codes, const IntegerGrid& grid,
                              torch::ScalarType stored) {
  return model::QuantizedMatrix::pack(
      grid.format, codes.to(torch::kUInt8), grid.scales.to(stored),
      grid.format.symmetric ? torch::Tensor() : grid.zeros.to(torch::kUInt8));
}

GroupRange searched_range(const torch::Tensor& w, const quant::IntegerFormat& format,
                          torch::ScalarType stored, const torch::Tensor& column_weights,
                          int tries) {
  constexpr double kLeast = 0.4;  // of the whole range
  const torch::Tensor wide = w.to(torch::kFloat32);
  const GroupRange whole = range_of(wide, format);
  GroupRange best = whole;
  torch::Tensor least;
  for (int i = 0; i < tries; ++i) {
    const double share = 1.0 - (1.0 - kLeast) * i / tries;
    const GroupRange tried{whole.low * share, whole.high * share};
    const IntegerGrid grid = grid_of(tried, format, stored);
    torch::Tensor error = (numbers_of(nearest_codes(wide, grid), grid) - wide).square_();
    if (column_weights.defined()) error *= column_weights;
    const torch::Tensor sums = in_groups(error, format).sum(-1);
    if (!least.defined()) {
      least = sums;
      continue;
    }
    const torch::Tensor better = sums < least;
    best = {at::where(better, tried.low, best.low), at::where(better, tried.high, best.high)};
    least = at::where(better, sums, least);
  }
  return best;
}

IntegerGrid grid_for(const torch::Tensor& w, const quant::IntegerFormat& format,
                     const std::optional<RangeSearch>& search) {
  const torch::ScalarType stored = scale_type(w, format);
  const GroupRange range =
      search ? searched_range(w, format, stored, search->column_weights, search->tries)
             : range_of(w, format);
  return grid_of(range, format, stored);
}

torch::Tensor rounded(const torch::Tensor& w, const quant::IntegerFormat& format,
                      const std::optional<RangeSearch>& search) {
  const IntegerGrid grid = grid_for(w, format, search);
  return numbers_of(nearest_codes(w, grid), grid);
}

torch::ScalarType scale_type(const torch::Tensor& w, const quant::IntegerFormat& format) {
  constexpr double kLeast = 6.2e-5, kMost = 6.5e4;  // normal numbers of float16
  const torch::Tensor scales = grid_of(range_of(w, format), format, torch::kFloat32).scales;
  const bool fits = scales.min().item<double>() > kLeast && scales.max().item<double>() < kMost;
  return fits ? torch::kFloat16 : torch::kBFloat16;
}

}  // namespace schmidt::compress
