// A model in integers of few bits: one token at a time its products read the integers as they are,
// many at once they unpack tiles. Both have to give the same logits.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/quantized_gemm.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/model.h"
#include "schmidt/model/quantized_projection.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

/// `layer` rounded to the nearest of its integers.
void quantize(test::TinyModel& tiny, const std::string& layer, const quant::IntegerFormat& format) {
  const torch::Tensor w =
      tiny.tensors.at(layer + ".weight").to(torch::kFloat32).unflatten(1, {-1, format.group});
  torch::Tensor scales, zeros;
  if (format.symmetric) {
    scales = w.abs().amax(-1) / (format.middle() - 1);
  } else {
    const torch::Tensor low = w.amin(-1).clamp_max(0);
    scales = (w.amax(-1).clamp_min(0) - low) / (format.levels() - 1);
    zeros = (-low / scales).round().to(torch::kUInt8);
  }
  const torch::Tensor zero =
      format.symmetric ? torch::full({1, 1}, format.middle()).to(w) : zeros.to(w);
  const torch::Tensor codes = (w / scales.unsqueeze(-1) + zero.unsqueeze(-1))
                                  .round()
                                  .clamp(0, format.levels() - 1)
                                  .to(torch::kUInt8)
                                  .flatten(1);
  const StoredWeight stored = quantized_weight(
      layer, QuantizedMatrix::pack(format, codes, scales.to(torch::kFloat16), zeros));
  tiny.tensors.erase(layer + ".weight");
  for (const NamedTensor& t : stored.tensors) tiny.tensors[t.name] = t.tensor;
  tiny.config["compression_config"]["version"] = 1;
  tiny.config["compression_config"]["layers"][layer] = stored.form;
}

/// Every layer of a tiny model, the embedding in 8 bits; hidden 96, MLP 144.
test::TinyModel quantized_model(int bits) {
  test::TinyModel tiny = test::make_tiny_model(2, 5, 4);
  for (int64_t block = 0; block < 2; ++block) {
    const std::string prefix = block_prefix(block);
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"}) {
      quantize(tiny, prefix + name, {bits, 32, bits == 8});
    }
    quantize(tiny, prefix + "mlp.down_proj", {bits, 48, bits == 8});
  }
  quantize(tiny, "model.embed_tokens", {8, 96, true});
  return tiny;
}

Model load(const test::TinyModel& tiny, kernels::Activations activations, torch::ScalarType dtype) {
  return Model::load(tiny.config,
                     Weights(tiny.tensors, "tiny", {.dtype = dtype, .activations = activations}));
}

/// Logits of every position [2, t, vocab], a token of each row at a time.
torch::Tensor one_by_one(const Model& model, const torch::Tensor& ids) {
  KvCache cache = model.make_cache(2, ids.size(1));
  std::vector<torch::Tensor> all;
  for (int64_t i = 0; i < ids.size(1); ++i) {
    all.push_back(model.step(ids.narrow(1, i, 1).contiguous(), {1, 1}, cache));
  }
  return torch::stack(all, 1);
}

class QuantizedModel : public testing::TestWithParam<int> {
 protected:
  test::TinyModel tiny_ = quantized_model(GetParam());
  torch::Tensor ids_ = torch::randint(264, {2, 20}, torch::kInt64);  // more rows than few
};

TEST_P(QuantizedModel, OneTokenAtATimeIsExactlyTheTiledProduct) {
  const Model model = load(tiny_, kernels::Activations::kExact, torch::kFloat32);
  const torch::Tensor tiled = model.forward(ids_);
  EXPECT_LT((one_by_one(model, ids_) - tiled).abs().max().item<float>(), 1e-4);
}

TEST_P(QuantizedModel, Int8ActivationsAreNear) {
  if (!kernels::gemv_is_fast()) GTEST_SKIP() << "products of few rows are the tiled ones here";
  const Model exact = load(tiny_, kernels::Activations::kExact, torch::kFloat32);
  const Model int8 = load(tiny_, kernels::Activations::kInt8, torch::kFloat32);
  const torch::Tensor tiled = exact.forward(ids_);
  const auto expect_near = [&](const torch::Tensor& logits) {
    const double error = (logits - tiled).norm().item<double>();
    EXPECT_GT(error, 0.0);
    EXPECT_LT(error, 0.02 * tiled.norm().item<double>());
  };
  expect_near(one_by_one(int8, ids_));
  // Many rows in one product where there are products by panels.
  const torch::Tensor whole = int8.forward(ids_);
  if (kernels::quantized_gemm_is_fast()) {
    expect_near(whole);
  } else {
    EXPECT_TRUE(torch::equal(whole, tiled));
  }
}

TEST_P(QuantizedModel, ComputesInBfloat16) {
  const torch::Tensor tiled =
      load(tiny_, kernels::Activations::kExact, torch::kFloat32).forward(ids_);
  for (const auto activations : {kernels::Activations::kExact, kernels::Activations::kInt8}) {
    const Model model = load(tiny_, activations, torch::kBFloat16);
    const torch::Tensor ours = one_by_one(model, ids_);
    EXPECT_EQ(ours.scalar_type(), torch::kBFloat16);
    EXPECT_LT((ours - tiled).norm().item<double>(), 0.05 * tiled.norm().item<double>());
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, QuantizedModel, testing::Values(8, 6, 5, 4, 3, 2));

TEST(PackedScales, NoneIsZeroHoweverNarrowItsType) {
  const torch::Tensor codes = torch::ones({4, 32}, torch::kUInt8);
  for (const auto dtype : {torch::kFloat16, torch::kBFloat16, torch::kFloat32}) {
    StoredWeight stored =
        quantized_weight("a", QuantizedMatrix::pack({4, 16, true}, codes, torch::ones({4, 2}), {}));
    stored.tensors[1].tensor = torch::tensor({1e-12F, -1e-12F, 0.0F, 1e-4F}).repeat({2, 1}).t();
    const torch::Tensor scales = pack_weight("a", stored, {.dtype = dtype}).tensors[1].tensor;
    EXPECT_EQ(scales.scalar_type(), dtype);
    EXPECT_TRUE(scales.ne(0).all().item<bool>()) << dtype;
    EXPECT_LT(scales.narrow(0, 0, 3).abs().max().item<float>(), 1e-7F) << dtype;
  }
}

}  // namespace
}  // namespace schmidt::model
