#include "schmidt/compress/methods.h"

#include <limits>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/layer_kinds.h"

#include "tests/tn/random_moment_norm.h"

namespace schmidt::compress {
namespace {

constexpr int64_t kRows = 20, kCols = 12;

FittedWeight plain(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                   const MethodOptions& options) {
  return find_method("tt-svd").fit(w, plan, inputs, options);
}

/// Stands for a decomposition that fails in single precision.
FittedWeight only_in_double(const torch::Tensor& w, const plan::LayerPlan& plan,
                            const LayerInputs& inputs, const MethodOptions& options) {
  TORCH_CHECK_LINALG(w.scalar_type() == torch::kFloat64, "no convergence");
  TORCH_CHECK_LINALG(inputs.moments.scalar_type() == torch::kFloat64, "no convergence");
  return plain(w, plan, inputs, options);
}

FittedWeight never(const torch::Tensor&, const plan::LayerPlan&, const LayerInputs&,
                   const MethodOptions&) {
  TORCH_CHECK_LINALG(false, "no convergence");
}

FittedWeight nan_in_single(const torch::Tensor& w, const plan::LayerPlan& plan,
                           const LayerInputs& inputs, const MethodOptions& options) {
  const bool single = w.scalar_type() == torch::kFloat32;
  FittedWeight fitted = plain(w, plan, inputs, options);
  if (single) {
    fitted.weight.tensors[0].tensor.flatten()[0] = std::numeric_limits<float>::quiet_NaN();
  }
  return fitted;
}

Method method_of(decltype(Method::fit) fit) {
  return {.name = "test", .needs_inputs = true, .any_shape = true, .fit = fit};
}

class FactorizeLayer : public ::testing::Test {
 protected:
  FactorizeLayer() {
    plan.layer.name = "model.layers.3.mlp.down_proj";
    plan.layer.rows = kRows;
    plan.layer.cols = kCols;
    plan.shape = tn::low_rank_shape(kRows, kCols);
    plan.max_bonds = {4};
    inputs.moments = tn::random_moments(kCols, kCols).to(torch::kFloat32);
  }

  template <typename Error>
  std::string refusal(const Method& method) {
    try {
      fit_layer(method, w, plan, inputs, {});
    } catch (const Error& e) {
      return e.what_without_backtrace();
    }
    return "";
  }

  torch::Tensor unfolded(const FittedWeight& fitted) const {
    return model::unfold_weight({plan.layer.name, kRows, kCols}, fitted.weight);
  }

  plan::LayerPlan plan;
  LayerInputs inputs;
  torch::Tensor w = torch::randn({kRows, kCols});
};

TEST_F(FactorizeLayer, TriesAgainInDoubleWhereAnSvdDoesNotConverge) {
  const torch::Tensor expected = unfolded(fit_layer(method_of(plain), w, plan, inputs, {}));
  for (const auto fit : {only_in_double, nan_in_single}) {
    const torch::Tensor found = unfolded(fit_layer(method_of(fit), w, plan, inputs, {}));
    EXPECT_EQ(found.scalar_type(), torch::kFloat32);
    EXPECT_LT((found - expected).norm().item<double>(), 1e-5 * expected.norm().item<double>());
  }
}

TEST_F(FactorizeLayer, NamesTheLayerThatDoesNotConverge) {
  const std::string message = refusal<c10::LinAlgError>(method_of(never));
  EXPECT_NE(message.find(plan.layer.name), std::string::npos) << message;
  EXPECT_NE(message.find("does not converge"), std::string::npos) << message;
}

TEST_F(FactorizeLayer, RefusesMomentsThatAreNotFinite) {
  inputs.moments[2][2] = std::numeric_limits<float>::infinity();
  for (const char* name : {"whitened", "als", "tt-svd"}) {
    EXPECT_NE(refusal<c10::ValueError>(find_method(name)).find("overflow"), std::string::npos);
  }
}

TEST(Methods, AreCheckedByTheFileThatNamesThem) {
  const auto refusal = [](const std::string& method) {
    plan::LayerPlan p{.layer = {.name = "o_proj", .rows = kRows, .cols = kCols}, .method = method};
    p.shape = {{4, 5}, {3, 4}};
    try {
      check_methods({p}, "plan.json");
    } catch (const FormatError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal("als"), "");
  EXPECT_NE(refusal("magic").find("layers.o_proj.method: expected a known method"),
            std::string::npos);
  EXPECT_NE(refusal("whitened").find("(m, 1) x (1, n)"), std::string::npos);
}

}  // namespace
}  // namespace schmidt::compress
