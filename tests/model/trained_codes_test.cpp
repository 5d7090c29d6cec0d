#include "schmidt/model/trained_codes.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace schmidt::model {
namespace {

QuantizedMatrix matrix(const quant::IntegerFormat& format) {
  torch::manual_seed(3);
  const torch::Tensor codes =
      torch::randint(format.levels(), {6, 32}, torch::kInt64).to(torch::kUInt8);
  const torch::Tensor scales = torch::rand({6, 32 / format.group}) + 0.1;
  const torch::Tensor zeros =
      torch::randint(format.levels(), {6, 32 / format.group}, torch::kInt64).to(torch::kUInt8);
  return QuantizedMatrix::pack(format, codes, scales, format.symmetric ? torch::Tensor() : zeros);
}

class TrainedCodesTest : public testing::TestWithParam<quant::IntegerFormat> {};

TEST_P(TrainedCodesTest, BeginAsTheWeightThatIsStored) {
  const QuantizedMatrix w = matrix(GetParam());
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const TrainedCodes layer("layer", w, std::nullopt, dtype);
    const torch::Tensor codes = layer.parameters().front().tensor;
    EXPECT_TRUE(torch::equal(codes_of(codes, GetParam().bits), w.codes()));
  }
  const TrainedCodes layer("layer", w, std::nullopt, torch::kFloat32);
  EXPECT_TRUE(torch::allclose(layer.weight(), w.decode(torch::kFloat32)));
  const torch::Tensor ids = torch::tensor({{4, 1}, {0, 5}});
  EXPECT_TRUE(torch::equal(layer.rows(ids), layer.weight().index({ids})));
  EXPECT_TRUE(torch::equal(layer.tensors().front().tensor, w.packed()));
}

TEST_P(TrainedCodesTest, BeginWhereTheOriginalLiesAroundThem) {
  const QuantizedMatrix w = matrix(GetParam());
  const torch::Tensor step = w.scales().repeat_interleave(GetParam().group, 1);
  const torch::Tensor original = w.decode(torch::kFloat32) + step * (torch::rand({6, 32}) - 0.5);
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const TrainedCodes layer("layer", w, std::nullopt, dtype, original);
    const torch::Tensor u = layer.parameters().front().tensor.to(torch::kFloat32);
    EXPECT_TRUE(torch::equal(codes_of(u, GetParam().bits), w.codes())) << dtype;
    if (GetParam().bits == 8) continue;  // bfloat16 has no room between them
    EXPECT_GT((16 * u - w.codes().to(torch::kFloat32)).abs().mean().item<double>(), 0.1);
  }
}

TEST_P(TrainedCodesTest, GradientIsThatOfTheCodesUpToTheEndsOfTheirRange) {
  const quant::IntegerFormat format = GetParam();
  const QuantizedMatrix w = matrix(format);
  const TrainedCodes layer("layer", w, std::nullopt, torch::kFloat32);
  torch::Tensor u = layer.parameters()[0].tensor, s = layer.parameters()[1].tensor;
  {
    const torch::NoGradGuard no_grad;
    u[0][0] = -1.0;  // beyond the range, where nothing moves the weight
    u[0][1] = 100.0;
  }
  u.requires_grad_();
  s.requires_grad_();
  const torch::Tensor x = torch::randn({5, 32}), dy = torch::randn({5, 6});
  layer.apply(x).backward(dy);

  const torch::Tensor dw = torch::matmul(dy.t(), x);
  torch::Tensor expected = 16 * dw * s.detach().repeat_interleave(format.group, 1);
  expected[0][0] = 0;
  expected[0][1] = 0;
  EXPECT_TRUE(torch::allclose(u.grad(), expected, 1e-5, 1e-5));
  // dW / ds = q - z = W / s
  const torch::Tensor of_scales =
      (dw * layer.weight().detach()).unflatten(1, {-1, format.group}).sum(-1);
  EXPECT_TRUE(torch::allclose(s.grad(), of_scales / s.detach(), 1e-4, 1e-4));
}

TEST_P(TrainedCodesTest, GradientOfZeroPointsIsThatOfTheirGroups) {
  const quant::IntegerFormat format = GetParam();
  const QuantizedMatrix w = matrix(format);
  const TrainedCodes layer("layer", w, std::nullopt, torch::kFloat32);
  const std::vector<NamedTensor> all = layer.parameters();
  EXPECT_EQ(all.size(), format.symmetric ? 2U : 3U);
  if (format.symmetric) return;
  EXPECT_EQ(all[2].name, zeros_name("layer"));
  EXPECT_TRUE(torch::equal(codes_of(all[2].tensor, format.bits), w.zeros()));
  torch::Tensor v = all[2].tensor;
  {
    const torch::NoGradGuard no_grad;
    v[0][0] = -1.0;  // beyond the range
  }
  v.requires_grad_();
  const torch::Tensor x = torch::randn({5, 32}), dy = torch::randn({5, 6});
  layer.apply(x).backward(dy);
  const torch::Tensor of_groups = torch::matmul(dy.t(), x).unflatten(1, {-1, format.group}).sum(-1);
  torch::Tensor expected = -16 * w.scales() * of_groups;  // dW / dz = -s
  expected[0][0] = 0;
  EXPECT_TRUE(torch::allclose(v.grad(), expected, 1e-5, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Formats, TrainedCodesTest,
                         testing::Values(quant::IntegerFormat{2, 8, false},
                                         quant::IntegerFormat{3, 16, true},
                                         quant::IntegerFormat{4, 32, false},
                                         quant::IntegerFormat{8, 16, true}));

}  // namespace
}  // namespace schmidt::model
