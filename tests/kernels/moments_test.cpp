#include "schmidt/kernels/moments.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::kernels {
namespace {

struct Case {
  int64_t tokens, m, n;
  torch::ScalarType dtype;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.tokens << "x" << c.m << "x" << c.n << " " << c10::toString(c.dtype);
}

class Moments : public testing::TestWithParam<Case> {
 protected:
  Moments() { torch::manual_seed(3); }

  torch::Tensor random(int64_t columns) const {
    return torch::randn({GetParam().tokens, columns}).to(GetParam().dtype);
  }

  static void expect_near(const torch::Tensor& found, const torch::Tensor& expected) {
    ASSERT_EQ(found.sizes(), expected.sizes());
    if (found.numel() == 0) return;
    const double scale = std::max(expected.abs().max().item<double>(), 1e-12);
    EXPECT_LT((found.to(torch::kFloat64) - expected).abs().max().item<double>(), 3e-6 * scale);
  }
};

// In bfloat16 too: products and sums are not rounded to it.
TEST_P(Moments, AreThoseOfDoublePrecision) {
  const Case c = GetParam();
  const torch::Tensor x = random(c.m), y = random(c.n);
  const torch::Tensor begin = torch::randn({c.m, c.n}), square = torch::randn({c.n, c.n});
  const auto wide = [](const torch::Tensor& t) { return t.to(torch::kFloat64); };
  const int threads = at::get_num_threads();
  for (const int used : {1, 3}) {
    at::set_num_threads(used);
    const torch::Tensor cross = begin.clone(), own = square.clone();
    add_cross_moments(cross, x, y);
    expect_near(cross, wide(begin) + torch::matmul(wide(x).t(), wide(y)));
    add_moments(own, y);
    expect_near(own.triu(), (wide(square) + torch::matmul(wide(y).t(), wide(y))).triu());
    // The same of a view whose rows lie further apart.
    const torch::Tensor apart = torch::cat({y, y}, 1).narrow(1, 0, c.n);
    const torch::Tensor again = square.clone();
    add_moments(again, apart);
    EXPECT_TRUE(torch::equal(again.triu(), own.triu()));
    const torch::Tensor squares = torch::randn({c.n}), sum = squares.clone();
    const torch::Tensor weights = row_squares(x);
    expect_near(weights, wide(x).square().sum(1));
    add_weighted_squares(sum, weights, apart);
    expect_near(sum, wide(squares) + torch::matmul(wide(weights), wide(y).square()));
  }
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, Moments,
    testing::Values(Case{300, 96, 160, torch::kFloat32}, Case{300, 96, 160, torch::kBFloat16},
                    Case{301, 7, 48, torch::kBFloat16}, Case{1, 16, 16, torch::kBFloat16},
                    Case{517, 33, 35, torch::kFloat32}, Case{517, 33, 35, torch::kBFloat16},
                    Case{40, 30, 400, torch::kFloat32}, Case{64, 576, 80, torch::kBFloat16},
                    Case{0, 4, 16, torch::kFloat32}, Case{257, 5, 208, torch::kFloat32}));

TEST(Moments, RefusesWhatDoesNotFit) {
  const torch::Tensor sum = torch::zeros({3, 4});
  EXPECT_THROW(add_cross_moments(sum, torch::zeros({5, 3}), torch::zeros({6, 4})), c10::ValueError);
  EXPECT_THROW(row_squares(torch::zeros({5})), c10::ValueError);
  EXPECT_THROW(add_weighted_squares(torch::zeros({3}), torch::zeros({4}), torch::zeros({5, 3})),
               c10::ValueError);
  EXPECT_THROW(add_moments(sum, torch::zeros({5, 3})), c10::ValueError);
  EXPECT_THROW(add_cross_moments(sum, torch::zeros({5, 3}), torch::zeros({5, 4}, torch::kBFloat16)),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
