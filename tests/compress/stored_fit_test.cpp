#include "schmidt/compress/stored_fit.h"

#include <gtest/gtest.h>

#include "schmidt/model/layer_kinds.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::compress {
namespace {

constexpr int64_t kRows = 96, kCols = 64;

class StoredFits : public testing::Test {
 protected:
  StoredFits() { torch::manual_seed(3); }

  static plan::LayerPlan plan_of(int64_t rank) {
    plan::LayerPlan plan{.layer = {.name = "layer", .rows = kRows, .cols = kCols}};
    plan.shape = tn::low_rank_shape(kRows, kCols);
    plan.max_bonds = {rank};
    return plan;
  }

  static StoredFit fit(const torch::Tensor& w, const plan::LayerPlan& plan,
                       torch::ScalarType dtype) {
    return fit_and_pack(find_method("tt-svd"), w, plan, {}, {}, dtype);
  }

  static torch::Tensor unfolded(const StoredFit& fit) {
    return model::unfold_weight({"layer", kRows, kCols}, fit.stored).to(torch::kFloat32);
  }

  static int64_t bytes(const StoredFit& fit) {
    int64_t bytes = 0;
    for (const auto& t : fit.stored.tensors) bytes += static_cast<int64_t>(t.tensor.nbytes());
    return bytes;
  }

  static bool fixed_gauge(const StoredFit& fit) { return fit.stored.form.contains("gauge"); }

  static double error(const torch::Tensor& w, const StoredFit& fit) {
    return ((unfolded(fit) - w).norm() / w.norm()).item<double>();
  }
};

TEST_F(StoredFits, TheRoundingErrorIsTheMeasuredOne) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  const StoredFit rounded = fit(w, plan_of(20), torch::kBFloat16);
  const torch::Tensor exact = model::unfold_weight({"layer", kRows, kCols}, rounded.fitted.weight);
  EXPECT_NEAR(rounded.rounding_error,
              ((unfolded(rounded) - exact).norm() / exact.norm()).item<double>(), 1e-6);
  EXPECT_GT(rounded.rounding_error, 1e-3);
  EXPECT_EQ(fit(w, plan_of(20), torch::kFloat32).rounding_error, 0.0);
}

TEST_F(StoredFits, KeepsTheFixedGaugeWhereTheFitLosesMore) {
  const torch::Tensor w = torch::randn({kRows, kCols});
  EXPECT_TRUE(fixed_gauge(fit(w, plan_of(20), torch::kBFloat16)));
}

TEST_F(StoredFits, TakesPlainCoresWhereTheyAreNearerAtNoMoreBytes) {
  // Of rank 12: a fit at rank 16 in the fixed gauge, or at 14 in plain cores, loses nothing.
  const torch::Tensor w = torch::matmul(torch::randn({kRows, 12}), torch::randn({12, kCols}));
  plan::LayerPlan plan = plan_of(16);
  const StoredFit chosen = fit(w, plan, torch::kBFloat16);
  EXPECT_FALSE(fixed_gauge(chosen));
  const auto packed = model::pack_weight("layer", chosen.fitted.weight,
                                         {.dtype = torch::kBFloat16, .fixed_gauge = true});
  const StoredFit fixed{chosen.fitted, packed};
  EXPECT_LT(error(w, chosen), 0.8 * error(w, fixed));
  EXPECT_LE(bytes(chosen), 2 * plan.parameters() + 4 * 16);
  EXPECT_EQ(chosen.stored.form["rounding_error"].get<double>(), chosen.rounding_error);
}

}  // namespace
}  // namespace schmidt::compress
