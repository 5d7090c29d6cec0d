#include "schmidt/compress/integer_grid.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::compress {
namespace {

torch::Tensor weight() {
  torch::manual_seed(5);
  torch::Tensor w = torch::randn({6, 64}) * 0.02;
  w[1].zero_();       // a row of zeros
  w[2] = w[2].abs();  // one side alone
  w[3].slice(0, 0, 16).fill_(0.5);
  return w;
}

class Grid : public testing::TestWithParam<quant::IntegerFormat> {};

TEST_P(Grid, HoldsEveryNumberWithinHalfAStep) {
  const quant::IntegerFormat format = GetParam();
  const torch::Tensor w = weight();
  const IntegerGrid grid = grid_of(range_of(w, format), format, torch::kFloat16);
  const torch::Tensor codes = nearest_codes(w, grid);
  EXPECT_GE(codes.min().item<float>(), 0);
  EXPECT_LE(codes.max().item<float>(), format.levels() - 1);
  const torch::Tensor steps = grid.scales.repeat_interleave(format.group, 1);
  // A zero point is rounded, and so is the scale: the ends may lie one half step further.
  EXPECT_LE(((numbers_of(codes, grid) - w).abs() / steps).max().item<float>(), 1.02F);
  EXPECT_EQ(numbers_of(codes, grid)[1].abs().max().item<float>(), 0) << "zeros stay zeros";
  const model::QuantizedMatrix stored = packed(codes, grid, torch::kFloat16);
  EXPECT_TRUE(torch::equal(stored.decode(torch::kFloat32), numbers_of(codes, grid)));
}

TEST_P(Grid, SearchIsNoWorseInItsOwnNorm) {
  const quant::IntegerFormat format = GetParam();
  const torch::Tensor w = weight(), columns = torch::rand({64}) + 0.01;
  const auto error = [&](const GroupRange& range) {
    const IntegerGrid grid = grid_of(range, format, torch::kFloat16);
    return ((numbers_of(nearest_codes(w, grid), grid) - w).square() * columns).sum().item<double>();
  };
  const double plain = error(range_of(w, format));
  const double searched = error(searched_range(w, format, torch::kFloat16, columns));
  EXPECT_LE(searched, plain);
  if (format.bits <= 3) {
    EXPECT_LT(searched, 0.98 * plain);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Grid,
                         testing::Values(quant::IntegerFormat{8, 64, true},
                                         quant::IntegerFormat{4, 16, false},
                                         quant::IntegerFormat{4, 32, true},
                                         quant::IntegerFormat{3, 16, false},
                                         quant::IntegerFormat{2, 32, false}));

TEST(ScaleType, LeavesFloat16WhereScalesDoNotFit) {
  const quant::IntegerFormat format{4, 16, false};
  const torch::Tensor w = torch::randn({4, 32});
  EXPECT_EQ(scale_type(w, format), torch::kFloat16);
  EXPECT_EQ(scale_type(w * 1e-6, format), torch::kBFloat16);
  EXPECT_EQ(scale_type(w * 1e7, format), torch::kBFloat16);
}

}  // namespace
}  // namespace schmidt::compress
