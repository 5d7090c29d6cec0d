#include "schmidt/model/quantized_matrix.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/quantized_projection.h"

namespace schmidt::model {
namespace {

struct Case {
  int bits;
  int64_t m, n, group;
  bool symmetric;
};

class Quantized : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    torch::manual_seed(3);
    const Case c = GetParam();
    codes_ = torch::randint(0, 1 << c.bits, {c.m, c.n}, torch::kUInt8);
    scales_ = (torch::rand({c.m, c.n / c.group}) + 0.1).to(torch::kFloat16);
    if (!c.symmetric) zeros_ = torch::randint(0, 1 << c.bits, scales_.sizes(), torch::kUInt8);
  }

  QuantizedMatrix matrix() const {
    const Case c = GetParam();
    return QuantizedMatrix::pack({c.bits, c.group, c.symmetric}, codes_, scales_, zeros_);
  }

  /// By the formula.
  torch::Tensor expected() const {
    const Case c = GetParam();
    const auto wide = [&](const torch::Tensor& t) {
      return t.to(torch::kFloat32).repeat_interleave(c.group, 1);
    };
    const torch::Tensor zeros =
        c.symmetric ? torch::full({1, 1}, 1 << (c.bits - 1)).to(torch::kFloat32) : wide(zeros_);
    return (codes_.to(torch::kFloat32) - zeros) * wide(scales_);
  }

  torch::Tensor codes_, scales_, zeros_;
};

TEST_P(Quantized, UnpacksToTheFormula) {
  const QuantizedMatrix w = matrix();
  EXPECT_TRUE(torch::equal(w.codes(), codes_));
  EXPECT_TRUE(torch::equal(codes_by_library(w.packed(), w.columns(), w.format().bits),
                           codes_.to(torch::kInt64)));
  EXPECT_TRUE(torch::equal(w.decode(torch::kFloat32), expected()));
  EXPECT_TRUE(torch::equal(w.decode(1, 3, torch::kFloat32), expected().slice(0, 1, 3)));
  const torch::Tensor ids = torch::tensor({{2, 0}, {1, 2}});
  EXPECT_TRUE(torch::equal(w.gather(ids, torch::kFloat32),
                           expected().index_select(0, ids.flatten()).view({2, 2, w.columns()})));
}

TEST_P(Quantized, MultipliesAndPassesGradientsOn) {
  const QuantizedMatrix w = matrix();
  torch::Tensor x = torch::randn({2, 5, w.columns()}, torch::requires_grad());
  const torch::Tensor y = w.multiply(x);
  const torch::Tensor truth = torch::matmul(x, expected().t());
  EXPECT_LT((y - truth).abs().max().item<float>(), 1e-4 * truth.abs().max().item<float>());
  const torch::Tensor direction = torch::randn_like(truth);
  const torch::Tensor ours = torch::autograd::grad({y}, {x}, {direction})[0];
  const torch::Tensor theirs = torch::autograd::grad({truth}, {x}, {direction})[0];
  EXPECT_LT((ours - theirs).abs().max().item<float>(), 1e-4 * theirs.abs().max().item<float>());
}

TEST_P(Quantized, LooksUpRowsThatPassGradientsOn) {
  const QuantizedMatrix w = matrix();
  const torch::Tensor ids = torch::tensor({1, 0, 1}, torch::kInt64);
  const torch::Tensor plain = w.gather(ids, torch::kFloat32), g = torch::randn_like(plain);
  w.scales().set_requires_grad(true);
  const torch::Tensor rows = w.gather(ids, torch::kFloat32);
  EXPECT_TRUE(torch::equal(rows.detach(), plain));
  rows.backward(g);
  // W over its scales, times the gradient of each time that a row was looked up.
  const torch::Tensor by_scale =
      expected() / scales_.to(torch::kFloat32).repeat_interleave(GetParam().group, 1);
  const torch::Tensor sums = torch::zeros_like(expected()).index_add(0, ids, g);
  const torch::Tensor ds = (sums * by_scale).unflatten(1, {-1, GetParam().group}).sum(-1);
  const torch::Tensor found = w.scales().grad().to(torch::kFloat32);
  EXPECT_LT((found - ds).norm().item<double>(), 1e-2 * ds.norm().item<double>());
}

TEST_P(Quantized, FewRowsAreMultipliedAsManyAre) {
  const QuantizedMatrix w = matrix();
  const torch::Tensor x = torch::randn({40, w.columns()});
  const torch::Tensor truth = torch::matmul(x, expected().t());
  const double largest = truth.abs().max().item<double>();
  EXPECT_LT((w.multiply(x) - truth).abs().max().item<double>(), 1e-5 * largest);
  for (const int64_t rows : {1, 2, 7, 16, 17}) {
    const torch::Tensor few = x.narrow(0, 3, rows);
    const torch::Tensor error = w.multiply(few) - truth.narrow(0, 3, rows);
    EXPECT_LT(error.abs().max().item<double>(), 1e-5 * largest) << rows;
  }
}

TEST_P(Quantized, Int8ActivationsLeaveGradientsExact) {
  const QuantizedMatrix exact = matrix();
  const QuantizedMatrix w(exact.format(), exact.packed(), exact.scales(), exact.zeros(),
                          kernels::Activations::kInt8);
  const torch::Tensor x = torch::randn({3, w.columns()});
  const torch::Tensor recorded = w.multiply(x.clone().requires_grad_(true));
  EXPECT_TRUE(recorded.requires_grad());
  const torch::Tensor truth = torch::matmul(x, expected().t());
  EXPECT_LT((recorded - truth).abs().max().item<double>(), 1e-5 * truth.abs().max().item<double>());
  EXPECT_LT((w.multiply(x) - truth).norm().item<double>(), 0.02 * truth.norm().item<double>());
}

TEST_P(Quantized, IsStoredAndReadAsItWas) {
  const QuantizedMatrix w = matrix();
  const StoredWeight stored = quantized_weight("layer", w);
  const LayerSpec spec{"layer", w.rows(), w.columns()};
  EXPECT_TRUE(torch::equal(unfold_weight(spec, stored), w.decode(torch::kFloat32)));
  const WeightDescription description = describe_weight("layer", stored);
  EXPECT_EQ(description.shape, (std::vector<int64_t>{w.rows(), w.columns()}));
  EXPECT_EQ(description.parameters, w.rows() * w.columns());
}

INSTANTIATE_TEST_SUITE_P(Forms, Quantized,
                         testing::Values(Case{2, 7, 96, 32, false}, Case{3, 33, 96, 32, true},
                                         Case{3, 5, 100, 20, false}, Case{4, 9, 576, 64, false},
                                         Case{4, 300, 1536, 1536, true}, Case{8, 6, 50, 50, false},
                                         Case{8, 3, 64, 64, true}));

}  // namespace
}  // namespace schmidt::model
