#include "schmidt/model/low_rank_projection.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::model {
namespace {

constexpr int64_t kInputs = 24;

LowRankLayer random_layer(const std::string& name, int64_t m, int64_t r, bool bias) {
  const tn::Mpo mpo({at::randn({1, m, 1, r}), at::randn({r, 1, kInputs, 1})});
  LowRankLayer layer{name, tn::fix_gauge(mpo), std::nullopt};
  if (bias) layer.bias = at::randn({m});
  return layer;
}

torch::Tensor outputs_of(const LowRankLayer& layer, const torch::Tensor& x) {
  const torch::Tensor y = x.matmul(tn::free_gauge(layer.weight).to_dense().t());
  return layer.bias ? y + *layer.bias : y;
}

std::vector<LowRankLayer> three_layers(bool bias) {
  return {random_layer("q", 32, 9, bias), random_layer("k", 8, 8, bias),
          random_layer("v", 16, 1, bias)};
}

TEST(LowRankProjection, StacksTheOutputsOfItsLayers) {
  at::NoGradGuard no_grad;
  for (const bool bias : {false, true}) {
    const std::vector<LowRankLayer> layers = three_layers(bias);
    const LowRankProjection projection(layers);
    EXPECT_EQ(projection.out_features(), 56);
    for (const auto& leading : {std::vector<int64_t>{1}, {1, 1}, {2, 7}, {40}}) {
      std::vector<int64_t> sizes = leading;
      sizes.push_back(kInputs);
      const torch::Tensor x = at::randn(sizes);
      std::vector<torch::Tensor> expected;
      for (const LowRankLayer& layer : layers) expected.push_back(outputs_of(layer, x));
      EXPECT_TRUE(projection.apply(x).allclose(at::cat(expected, -1), 1e-4, 1e-4));
    }
    const torch::Tensor identity = at::eye(kInputs);
    const torch::Tensor columns = projection.weight().t();
    EXPECT_TRUE((projection.apply(identity) - projection.apply(at::zeros({kInputs})))
                    .allclose(columns, 1e-4, 1e-4));
  }
}

TEST(LowRankProjection, ListsWhatItWasMadeOf) {
  const std::vector<LowRankLayer> layers = three_layers(true);
  const LowRankProjection projection(layers);
  std::vector<std::string> names;
  for (const NamedTensor& tensor : projection.tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names.size(), 12U);  // two cores, pivots and a bias for each
  EXPECT_EQ(names[2], "q.pivots.0");
  const std::vector<NamedTensor> parameters = projection.parameters();
  ASSERT_EQ(parameters.size(), 9U);
  EXPECT_TRUE(parameters[3].tensor.equal(layers[1].weight.cores[0]));
  EXPECT_TRUE(parameters[4].tensor.equal(layers[1].weight.cores[1]));
  EXPECT_TRUE(parameters[5].tensor.equal(*layers[1].bias));
}

TEST(LowRankProjection, FollowsItsParametersAndSendsGradientsToThem) {
  const std::vector<LowRankLayer> layers = three_layers(false);
  const LowRankProjection projection(layers);
  for (const NamedTensor& parameter : projection.parameters()) {
    at::NoGradGuard no_grad;
    torch::Tensor(parameter.tensor).mul_(2.0);
  }
  const torch::Tensor x = at::randn({5, kInputs});
  const torch::Tensor before = projection.apply(x);
  for (const NamedTensor& parameter : projection.parameters()) {
    torch::Tensor(parameter.tensor).requires_grad_();
  }
  const torch::Tensor y = projection.apply(x);
  EXPECT_TRUE(y.allclose(before, 1e-4, 1e-4));
  y.sum().backward();
  for (const NamedTensor& parameter : projection.parameters()) {
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    EXPECT_EQ(parameter.tensor.grad().sizes(), parameter.tensor.sizes());
  }
}

TEST(LowRankProjection, RefusesWhatIsNoLowRank) {
  const tn::Mpo mpo({at::randn({1, 4, 4, 3}), at::randn({3, 2, 6, 1})});
  EXPECT_THROW(LowRankProjection({{"q", tn::fix_gauge(mpo), std::nullopt}}), c10::ValueError);
  LowRankLayer biased = random_layer("q", 8, 2, true);
  EXPECT_THROW(LowRankProjection({biased, random_layer("k", 8, 2, false)}), c10::ValueError);
  biased.bias = at::randn({7});
  EXPECT_THROW(LowRankProjection({biased}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
