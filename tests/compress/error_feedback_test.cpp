#include "schmidt/compress/error_feedback.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::compress {
namespace {

constexpr quant::IntegerFormat kFormat{3, 24, false};

class Feedback : public testing::Test {
 protected:
  Feedback() {
    torch::manual_seed(11);
    w = torch::randn({7, 168});
    const torch::Tensor mix = torch::randn({168, 168});
    const torch::Tensor x = torch::matmul(torch::randn({500, 168}), mix) + 3;  // a common direction
    moments = torch::matmul(x.t(), x) / 500;
    grid = grid_of(range_of(w, kFormat), kFormat, torch::kFloat32);
  }

  double loss(const torch::Tensor& codes) const {
    const torch::Tensor error = numbers_of(codes, grid) - w;
    return (torch::matmul(error, moments) * error).sum().item<double>();
  }

  torch::Tensor w, moments;
  IntegerGrid grid;
};

// As the paper writes it: a column at a time, with the Cholesky factor of the inverse.
torch::Tensor by_the_paper(const torch::Tensor& w, const torch::Tensor& moments, double damping,
                           const IntegerGrid& grid) {
  torch::Tensor h = moments.to(torch::kFloat64).clone();
  h.diagonal().add_(damping * h.diagonal().mean().item<double>());
  const torch::Tensor u = torch::linalg_cholesky(torch::linalg_inv(h)).t();
  torch::Tensor left = w.to(torch::kFloat64).clone(), codes = torch::empty_like(left);
  for (int64_t j = 0; j < w.size(1); ++j) {
    const torch::Tensor s = grid.scales.select(1, j / kFormat.group).to(torch::kFloat64);
    const torch::Tensor z = grid.zeros.select(1, j / kFormat.group).to(torch::kFloat64);
    const torch::Tensor code = (left.select(1, j) / s + z).round().clamp(0, kFormat.levels() - 1);
    codes.select(1, j).copy_(code);
    const torch::Tensor error = (left.select(1, j) - s * (code - z)) / u[j][j];
    left -= torch::outer(error, u[j]);
  }
  return codes.to(torch::kFloat32);
}

TEST_F(Feedback, FindsTheCodesOfThePaper) {
  const torch::Tensor codes = gptq_codes(w, grid, feedback_of(moments, 0.05));
  const torch::Tensor expected = by_the_paper(w, moments, 0.05, grid);
  // Float32 may decide otherwise where a number lies between two codes, and go on from there.
  EXPECT_GT(codes.eq(expected).to(torch::kFloat32).mean().item<float>(), 0.98F);
  EXPECT_NEAR(loss(codes) / loss(expected), 1.0, 0.02);
}

TEST_F(Feedback, LosesLessThanTheNearestCodes) {
  EXPECT_LT(loss(gptq_codes(w, grid, feedback_of(moments, kFeedbackDamping))),
            0.6 * loss(nearest_codes(w, grid)));
}

TEST_F(Feedback, OfBothSidesLosesLessInTheirNorm) {
  const torch::Tensor outputs = torch::full({7, 7}, 0.7) + 0.3 * torch::eye(7);
  const auto both = [&](const torch::Tensor& codes) {
    const torch::Tensor error = numbers_of(codes, grid) - w;
    return torch::matmul(outputs, torch::matmul(torch::matmul(error, moments), error.t()))
        .trace()
        .item<double>();
  };
  const torch::Tensor of_inputs = feedback_of(moments, kFeedbackDamping);
  const torch::Tensor of_outputs = feedback_of(outputs, kFeedbackDamping);
  EXPECT_LT(both(yaqa_codes(w, grid, of_inputs, of_outputs)),
            0.8 * both(gptq_codes(w, grid, of_inputs)));
}

// Errors E of numbers that have met those before them ask for F_out^T E F_in of the others.
TEST_F(Feedback, OfBothSidesIsTheFormulaInWhateverOrder) {
  w = torch::randn({70, 72});
  grid = grid_of(range_of(w, kFormat), kFormat, torch::kFloat32);
  const auto feedback = [](int64_t size) {
    const torch::Tensor x = torch::randn({400, size}) + 0.5;
    return feedback_of(torch::matmul(x.t(), x), kFeedbackDamping);
  };
  const torch::Tensor of_inputs = feedback(72), of_outputs = feedback(70);
  torch::Tensor errors = torch::zeros_like(w), codes = torch::zeros_like(w);
  for (int64_t i = 0; i < 70; ++i) {
    for (int64_t j = 0; j < 72; ++j) {
      const double asked =
          torch::matmul(torch::matmul(of_outputs.select(1, i), errors), of_inputs.select(1, j))
              .item<double>();
      const double target = w[i][j].item<double>() - asked;
      const double s = grid.scales[i][j / kFormat.group].item<double>();
      const double z = grid.zeros[i][j / kFormat.group].item<double>();
      const double code = std::clamp(std::nearbyint(target / s + z), 0.0, kFormat.levels() - 1.0);
      codes[i][j] = code;
      errors[i][j] = target - s * (code - z);
    }
  }
  const torch::Tensor found = yaqa_codes(w, grid, of_inputs, of_outputs);
  EXPECT_GT(found.eq(codes).to(torch::kFloat32).mean().item<float>(), 0.98F);
}

TEST_F(Feedback, OfOutputsThatAreNotCorrelatedChangesNothing) {
  const torch::Tensor of_inputs = feedback_of(moments, 0.1);
  const torch::Tensor yaqa = yaqa_codes(w, grid, of_inputs, torch::eye(7));
  // Sums in another order.
  EXPECT_GT(yaqa.eq(gptq_codes(w, grid, of_inputs)).to(torch::kFloat32).mean().item<float>(),
            0.98F);
}

TEST_F(Feedback, IsRoundingToTheNearestWhereInputsAreNotCorrelated) {
  const torch::Tensor diagonal = (torch::rand({168}) + 0.1).diag();
  EXPECT_TRUE(
      torch::equal(gptq_codes(w, grid, feedback_of(diagonal, 0.1)), nearest_codes(w, grid)));
}

TEST_F(Feedback, MomentsOfLostRankAndOfNothingGiveCodes) {
  const torch::Tensor x = torch::randn({168, 1});
  for (const torch::Tensor& m : {torch::matmul(x, x.t()), torch::zeros({168, 168})}) {
    const torch::Tensor codes = gptq_codes(w, grid, feedback_of(m, 1e-3));
    EXPECT_GE(codes.min().item<float>(), 0);
    EXPECT_LE(codes.max().item<float>(), kFormat.levels() - 1);
    EXPECT_TRUE(torch::equal(codes, codes.round()));
  }
  EXPECT_TRUE(torch::equal(gptq_codes(w, grid, feedback_of(torch::zeros({168, 168}), 0.1)),
                           nearest_codes(w, grid)));
}

}  // namespace
}  // namespace schmidt::compress
