#include "schmidt/io/scaled_tensor.h"

#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/safetensors.h"

#include "tests/io/expect_error.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

using nlohmann::json;
using test::expect_error;

constexpr const char* kWeight = "model.layers.0.mlp.up_proj.weight";

// A value of 1 sign, 4 exponent and 3 mantissa bits with bias 7, as OCP's specification has it.
float e4m3(uint8_t bits) {
  const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits < 128 ? size : -size;
}

// Every pattern of bits but the two that stand for NaN.
torch::Tensor random_bits(int64_t rows, int64_t columns) {
  const torch::Tensor bits = torch::randint(0, 256, {rows, columns}, torch::kUInt8);
  return torch::where(bits.bitwise_and(127) == 127, bits - 1, bits).contiguous();
}

// W(i, j) = value(i, j) scale(i / rows, j / columns), one by one.
torch::Tensor scaled(const torch::Tensor& bits, const torch::Tensor& scales, int64_t rows,
                     int64_t columns) {
  torch::Tensor w = torch::empty(bits.sizes(), torch::kFloat32);
  const auto in = bits.accessor<uint8_t, 2>();
  const torch::Tensor grid = scales.to(torch::kFloat32).contiguous();
  const auto s = grid.accessor<float, 2>();
  auto out = w.accessor<float, 2>();
  for (int64_t i = 0; i < bits.size(0); ++i) {
    for (int64_t j = 0; j < bits.size(1); ++j) {
      out[i][j] = e4m3(in[i][j]) * s[i / rows][j / columns];
    }
  }
  return w;
}

class ScaledTensor : public testing::Test {
 protected:
  ScaledTensor() : folder_(tmp_ / "model") { std::filesystem::create_directory(folder_); }

  Checkpoint open(const json& quantization,
                  const std::vector<std::pair<std::string, torch::Tensor>>& tensors) const {
    json config = {{"model_type", "llama"}};
    if (!quantization.is_null()) config["quantization_config"] = quantization;
    test::write_file(folder_ / "config.json", config.dump());
    save_safetensors(folder_ / "model.safetensors", tensors);
    return Checkpoint::open(folder_);
  }

  void expect_refused(const json& quantization,
                      const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                      const std::string& reason) const {
    expect_error<FormatError>([&] { open(quantization, tensors); }, reason);
  }

  const torch::Tensor bits_ = random_bits(13, 10);
  const torch::Tensor stored_ = bits_.view(torch::kFloat8_e4m3fn);
  const torch::Tensor one_ = torch::tensor(0.375F);
  const std::string weight_ = kWeight;
  test::TemporaryFolder tmp_;
  std::filesystem::path folder_;
};

json compressed_tensors(const json& weights) {
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
}

TEST_F(ScaledTensor, EveryPatternOfBits) {
  const torch::Tensor bits = torch::arange(256, torch::kInt32).to(torch::kUInt8).view({16, 16});
  const auto model = open(nullptr, {{weight_, bits.view(torch::kFloat8_e4m3fn)}});
  const torch::Tensor read = model.load(weight_).flatten();
  for (int code = 0; code < 256; ++code) {
    const float value = read[code].item<float>();
    if ((code & 127) == 127) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(value, e4m3(static_cast<uint8_t>(code))) << code;
    }
  }
}

TEST_F(ScaledTensor, ScalesUnderNamesOfOtherFormatsAreRefused) {
  const std::string layer = weight_.substr(0, weight_.size() - std::string("weight").size());
  for (const char* name : {"scale_weight", "scale", "qscale", "scaling", "weight.scale",
                           "weight_scaling_factor", "weight_quantizer._amax"}) {
    expect_refused(nullptr, {{weight_, stored_}, {layer + name, one_}}, name);
  }
  // Beside numbers of full width they mean nothing, as in transformers.
  open(nullptr, {{weight_, torch::randn({3, 2})}, {layer + "scale", one_}});
}

TEST_F(ScaledTensor, BlocksThatDoNotDivideTheWeight) {
  struct Case {
    int64_t rows, columns;
  };
  for (const auto& [rows, columns] : {Case{4, 3}, Case{13, 10}, Case{5, 10}, Case{1, 4}, Case{6, 1},
                                      Case{128, 128}, Case{128, 3}}) {
    const torch::Tensor scales =
        torch::rand({(13 + rows - 1) / rows, (10 + columns - 1) / columns}) + 0.01;
    const auto model =
        open({{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {rows, columns}}},
             {{weight_, stored_}, {weight_ + "_scale_inv", scales}});
    EXPECT_TRUE(torch::equal(model.load(weight_), scaled(bits_, scales, rows, columns)))
        << rows << " x " << columns;
  }
}

TEST_F(ScaledTensor, BlocksOf128WhereNoSizeIsGiven) {
  const torch::Tensor bits = random_bits(300, 130), scales = torch::rand({3, 2}) + 0.01;
  for (const json& config : {json(nullptr), json{{"quant_method", "fp8"}}}) {
    const auto model = open(
        config, {{weight_, bits.view(torch::kFloat8_e4m3fn)}, {weight_ + "_scale_inv", scales}});
    EXPECT_TRUE(torch::equal(model.load(weight_), scaled(bits, scales, 128, 128)));
  }
}

TEST_F(ScaledTensor, OneScaleForTheTensorOrForEachChannel) {
  const torch::Tensor channels = torch::rand({13, 1}) + 0.01;
  const json fp8 = {{"quant_method", "fp8"}, {"weight_block_size", nullptr}};
  const json modelopt = {{"quant_method", "modelopt"}, {"quant_algo", "FP8"}};
  for (const json& config : {json(nullptr), fp8, modelopt, json{{"quant_method", "fbgemm_fp8"}},
                             compressed_tensors({{"num_bits", 8}, {"type", "float"}})}) {
    for (const torch::Tensor& one : {one_, one_.view({1}), one_.view({1, 1})}) {
      const auto model = open(config, {{weight_, stored_}, {weight_ + "_scale", one}});
      EXPECT_TRUE(torch::equal(model.load(weight_), scaled(bits_, one.view({1, 1}), 13, 10)));
    }
  }
  const json by_channel =
      compressed_tensors({{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}});
  for (const json& config :
       {json(nullptr), fp8, json{{"quant_method", "fbgemm_fp8"}}, by_channel}) {
    for (const torch::Tensor& scales : {channels, channels.view({13})}) {
      const auto model = open(config, {{weight_, stored_}, {weight_ + "_scale", scales}});
      EXPECT_TRUE(torch::equal(model.load(weight_), scaled(bits_, channels, 1, 10)));
    }
  }
}

TEST_F(ScaledTensor, GroupsAndBlocksOfCompressedTensors) {
  const torch::Tensor groups = torch::rand({13, 3}) + 0.01, blocks = torch::rand({4, 2}) + 0.01;
  json weights = {{"num_bits", 8}, {"type", "float"}, {"strategy", "group"}, {"group_size", 4}};
  EXPECT_TRUE(torch::equal(
      open(compressed_tensors(weights), {{weight_, stored_}, {weight_ + "_scale", groups}})
          .load(weight_),
      scaled(bits_, groups, 1, 4)));
  weights = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {4, 5}}};
  EXPECT_TRUE(torch::equal(
      open(compressed_tensors(weights), {{weight_, stored_}, {weight_ + "_scale", blocks}})
          .load(weight_),
      scaled(bits_, blocks, 4, 5)));
}

TEST_F(ScaledTensor, ScalesOfOtherTypes) {
  const torch::Tensor scales = torch::tensor({0.25F, 2.0F, 0.5F, 8.0F}).view({4, 1});
  const json config = {{"quant_method", "fp8"}, {"weight_block_size", {4, 128}}};
  for (const torch::ScalarType type :
       {torch::kFloat16, torch::kBFloat16, torch::kFloat64, torch::kFloat8_e8m0fnu}) {
    const auto model =
        open(config, {{weight_, stored_}, {weight_ + "_scale_inv", scales.to(type)}});
    EXPECT_TRUE(torch::equal(model.load(weight_), scaled(bits_, scales, 4, 10))) << type;
  }
  expect_refused(config, {{weight_, stored_}, {weight_ + "_scale_inv", scales.to(torch::kInt32)}},
                 "expected scales of a floating type, found I32");
}

TEST_F(ScaledTensor, TheFiveBitExponent) {
  const torch::Tensor values = torch::randn({6, 4}).to(torch::kFloat8_e5m2);
  const auto model =
      open({{"quant_method", "fp8"}, {"fmt", "e5m2"}, {"weight_block_size", nullptr}},
           {{weight_, values}, {weight_ + "_scale", one_}});
  EXPECT_TRUE(torch::equal(model.load(weight_), values.to(torch::kFloat32) * one_));
}

// One view: plain names, a plain type, the bytes of the disk, no word of quantization.
TEST_F(ScaledTensor, ACheckpointShowsPlainTensors) {
  const auto model = open({{"quant_method", "fp8"}, {"weight_block_size", {4, 4}}},
                          {{weight_, stored_},
                           {weight_ + "_scale_inv", torch::ones({4, 3})},
                           {"model.layers.0.mlp.up_proj.input_scale", one_},
                           {"model.layers.0.mlp.up_proj.activation_scale", one_},
                           {"model.layers.0.self_attn.k_scale", one_},
                           {"model.layers.0.self_attn.v_proj.output_scale", one_},
                           {"model.layers.0.mlp.up_proj.weight_zero_point", torch::zeros({4, 3})},
                           {"model.norm.weight", torch::ones({10}).to(torch::kBFloat16)}});
  ASSERT_EQ(model.tensors().size(), 2U);
  const TensorInfo& info = model.tensors().at(weight_);
  EXPECT_EQ(info.shape, (std::vector<int64_t>{13, 10}));
  EXPECT_EQ(info.dtype, torch::kFloat32);
  EXPECT_EQ(info.stored_as, "F8_E4M3");
  EXPECT_EQ(info.bytes, 13U * 10 + 4 * 3 * 4);
  EXPECT_EQ(model.load(weight_).scalar_type(), torch::kFloat32);
  EXPECT_EQ(model.stored_bytes(weight_).size(), 2U);
  EXPECT_EQ(model.stored_bytes("model.norm.weight").size(), 1U);
  EXPECT_FALSE(model.config().contains("quantization_config"));
  EXPECT_EQ(model.config().at("model_type"), "llama");
}

TEST_F(ScaledTensor, ScalesInAnotherShard) {
  test::write_file(folder_ / "config.json", R"({"quantization_config": {"quant_method": "fp8"}})");
  save_safetensors(folder_ / "1.safetensors", {{weight_, stored_}});
  save_safetensors(folder_ / "2.safetensors", {{weight_ + "_scale_inv", one_}});
  test::write_file(
      folder_ / "model.safetensors.index.json",
      json{{"weight_map", {{weight_, "1.safetensors"}, {weight_ + "_scale_inv", "2.safetensors"}}}}
          .dump());
  EXPECT_TRUE(torch::equal(Checkpoint::open(folder_).load(weight_),
                           scaled(bits_, one_.view({1, 1}), 13, 10)));
}

TEST_F(ScaledTensor, ScalesThatAreMissing) {
  const std::string other = "model.layers.0.mlp.gate_proj.weight";
  const std::string reason = weight_ + ": expected its scales, " + weight_ + "_scale_inv or ";
  expect_refused({{"quant_method", "fp8"}}, {{weight_, stored_}}, reason);
  expect_refused(nullptr, {{weight_, stored_}, {other, stored_}, {other + "_scale", one_}}, reason);
  expect_refused(nullptr, {{weight_, stored_}, {"model.layers.0.mlp.up_proj.input_scale", one_}},
                 reason);
  // Where nothing speaks of scales the values are what they are.
  const torch::Tensor plain = scaled(bits_, torch::ones({1, 1}), 13, 10);
  EXPECT_TRUE(torch::equal(open(nullptr, {{weight_, stored_}}).load(weight_), plain));
  // A layer that the tool has left alone needs none.
  const auto mixed = open({{"quant_method", "fp8"}}, {{weight_, plain}});
  EXPECT_TRUE(torch::equal(mixed.load(weight_), plain));
}

TEST_F(ScaledTensor, ScalesThatDoNotFit) {
  const json fp8 = {{"quant_method", "fp8"}, {"weight_block_size", {4, 4}}};
  expect_refused(fp8, {{weight_, stored_}, {weight_ + "_scale_inv", torch::ones({3, 3})}},
                 weight_ +
                     "_scale_inv: expected scales of shape [4, 3] for a tensor [13, 10], "
                     "found [3, 3]");
  expect_refused(fp8, {{weight_, stored_}, {weight_ + "_scale_inv", one_}}, "found []");
  expect_refused(nullptr, {{weight_, stored_}, {weight_ + "_scale", torch::ones({10})}},
                 "expected scales of shape [1, 1] or [13, 1]");
  expect_refused(fp8, {{weight_ + "_scale_inv", torch::ones({4, 3})}},
                 "expected the tensor " + weight_ + " beside its scales, found none");
  expect_refused(fp8, {{weight_, bits_}, {weight_ + "_scale_inv", torch::ones({4, 3})}},
                 "expected scales of an FP8 tensor, found " + weight_ + " stored as U8");
  expect_refused(fp8,
                 {{weight_, stored_},
                  {weight_ + "_scale_inv", torch::ones({4, 3})},
                  {weight_ + "_scale", torch::ones({4, 3})}},
                 weight_ + ": expected one tensor of scales, found two");
  expect_refused(fp8,
                 {{weight_, stored_},
                  {weight_ + "_scale_inv", torch::ones({4, 3})},
                  {"model.layers.0.mlp.up_proj.weight_zero_point", torch::ones({4, 3})}},
                 "expected zero points of 0 beside FP8");
  json two = compressed_tensors(
      {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {7, 10}}});
  two["config_groups"]["group_1"] = two["config_groups"]["group_0"];
  two["config_groups"]["group_1"]["weights"]["block_structure"] = {8, 10};
  expect_refused(two, {{weight_, stored_}, {weight_ + "_scale", torch::ones({2, 1})}},
                 "expected scales of one block size, found two that fit: 7 x 10 and 8 x 10");
}

}  // namespace
}  // namespace schmidt::io
