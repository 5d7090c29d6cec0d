#include "schmidt/io/quantization_config.h"

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

json with_group(const json& weights, const std::string& format) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups", {{"group_0", {{"weights", weights}}}}}};
}

const json kFloat8 = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};

json changed(json object, const std::string& key, const json& value) {
  object[key] = value;
  return object;
}

struct Refused {
  json config;
  std::string name;
};

const std::vector<Refused> kRefused = {
    {{{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}}, "GPTQ 4 bit"},
    {{{"quant_method", "awq"}, {"bits", 4}, {"version", "gemm"}}, "AWQ 4 bit"},
    {{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, "bitsandbytes fp4"},
    {{{"load_in_4bit", true}, {"bnb_4bit_quant_type", "fp4"}}, "bitsandbytes fp4"},
    {{{"load_in_4bit", true},
      {"bnb_4bit_quant_type", "nf4"},
      {"bnb_4bit_quant_storage", "bfloat16"}},
     "bitsandbytes nf4 in tensors of bfloat16"},
    {{{"quant_method", "bitsandbytes"}}, "bitsandbytes"},
    {{{"quant_method", "bitsandbytes"}, {"_load_in_8bit", true}, {"_load_in_4bit", false}},
     "bitsandbytes LLM.int8()"},
    {{{"load_in_8bit", true}}, "bitsandbytes LLM.int8()"},
    {{{"quant_method", "mxfp4"}}, "MXFP4"},
    {{{"quant_method", "auto_round"}, {"bits", 2}}, "AutoRound 2 bit"},
    {{{"quant_method", "torchao"}, {"quant_type", {{"default", json::object()}}}}, "torchao"},
    {{{"quant_method", "tomorrow"}}, "tomorrow"},
    {{{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}, "ModelOpt NVFP4"},
    {{{"quant_method", "modelopt"}}, "ModelOpt without quant_algo"},
    {with_group({{"num_bits", 7}, {"type", "int"}, {"strategy", "group"}, {"group_size", 128}},
                "pack-quantized"),
     "compressed-tensors pack-quantized with int 7 bit"},
    {with_group({{"num_bits", 4}, {"type", "int"}, {"strategy", "tensor"}}, "pack-quantized"),
     "compressed-tensors pack-quantized by tensor"},
    {with_group({{"num_bits", 4},
                 {"type", "int"},
                 {"strategy", "group"},
                 {"group_size", 128},
                 {"actorder", "group"}},
                "pack-quantized"),
     "compressed-tensors with reordered columns"},
    {with_group({{"num_bits", 8}, {"type", "int"}, {"strategy", "channel"}}, "int-quantized"),
     "compressed-tensors int-quantized with int 8 bit"},
    {with_group({{"num_bits", 4}, {"type", "float"}, {"strategy", "tensor_group"}},
                "nvfp4-pack-quantized"),
     "compressed-tensors nvfp4-pack-quantized with float 4 bit"},
    {with_group(kFloat8, "marlin-24"), "compressed-tensors marlin-24 with float 8 bit"},
    {changed(with_group(kFloat8, "float-quantized"), "sparsity_config",
             {{"format", "sparse-24-bitmask"}}),
     "compressed-tensors sparse-24-bitmask"},
    {changed(with_group(kFloat8, "float-quantized"), "transform_config",
             {{"config_groups", {{"u", json::object()}}}}),
     "compressed-tensors with rotated weights"},
    {{{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}},
     "compressed-tensors pack-quantized"},
    {{{"quant_method", "compressed-tensors"}, {"config_groups", {{"W4A16", {"Linear"}}}}},
     "compressed-tensors W4A16"},
};

// Before a weight is looked for: there are none in the folder.
TEST(QuantizationConfig, OtherFormatsAreRefusedByName) {
  const test::TemporaryFolder tmp;
  for (const auto& [config, name] : kRefused) {
    test::write_file(tmp / "config.json", json{{"quantization_config", config}}.dump());
    expect_error<FormatError>([&] { Checkpoint::open(tmp.path()); },
                              "config.json: quantization_config");
    expect_error<FormatError>(
        [&] { Checkpoint::open(tmp.path()); },
        "expected plain weights or FP8 with its scales, found " + name + ", which is not read");
  }
}

TEST(QuantizationConfig, ConfigsThatAreNone) {
  const test::TemporaryFolder tmp;
  for (const json& config :
       {json(7), json("fp8"), json::array({1}), json{{"a", 1}}, json{{"quant_method", 1}},
        json{{"quant_method", "fp8"}, {"weight_block_size", {128}}},
        json{{"quant_method", "fp8"}, {"weight_block_size", {0, 128}}},
        json{{"quant_method", "fp8"}, {"weight_block_size", {128, -1}}},
        json{{"quant_method", "fp8"}, {"weight_block_size", {1e300, 128}}},
        json{{"quant_method", "compressed-tensors"}, {"config_groups", {1}}},
        json{{"quant_method", "compressed-tensors"}, {"config_groups", {{"g", 1}}}},
        json{{"quant_method", "compressed-tensors"}, {"sparsity_config", {1}}},
        json{{"quant_method", "compressed-tensors"}, {"transform_config", 1}},
        with_group({{"num_bits", 8}, {"type", "float"}, {"strategy", "group"}}, "")}) {
    test::write_file(tmp / "config.json", json{{"quantization_config", config}}.dump());
    expect_error<FormatError>([&] { Checkpoint::open(tmp.path()); }, "quantization_config");
  }
}

TEST(QuantizationConfig, WhatSaysNothingIsTakenOut) {
  for (const json& config : {json(nullptr), json::object()}) {
    json model = {{"quantization_config", config}, {"model_type", "llama"}};
    EXPECT_FALSE(take_quantization(model, json::object(), "m").declared);
    EXPECT_EQ(model, (json{{"model_type", "llama"}}));
  }
}

// Written before quantization_config was, under a key that schmidt's own folders use.
TEST(QuantizationConfig, TheOlderKeyOfCompressedTensors) {
  const json own = {{"version", 1}, {"layers", json::object()}};
  json model = {{"compression_config", own}};
  EXPECT_FALSE(take_quantization(model, json::object(), "m").declared);
  EXPECT_EQ(model.at("compression_config"), own);

  model["compression_config"] = with_group(kFloat8, "float-quantized");
  EXPECT_TRUE(take_quantization(model, json::object(), "m").declared);
  EXPECT_FALSE(model.contains("compression_config"));

  model["compression_config"] = {{"quantization_config", with_group(kFloat8, "float-quantized")},
                                 {"sparsity_config", {{"format", "sparse-bitmask"}}}};
  expect_error<FormatError>([&] { take_quantization(model, json::object(), "m"); },
                            "sparse-bitmask");
}

TEST(QuantizationConfig, TheFileOfModelOpt) {
  json model = json::object();
  const auto of = [](const json& algorithm) {
    return json{{"producer", {{"name", "modelopt"}}},
                {"quantization", {{"quant_algo", algorithm}}}};
  };
  EXPECT_TRUE(take_quantization(model, of("FP8"), "m").declared);
  EXPECT_FALSE(take_quantization(model, of(nullptr), "m").declared);
  expect_error<FormatError>([&] { take_quantization(model, of("W4A8_AWQ"), "m"); },
                            "hf_quant_config.json: quantization: expected plain weights or FP8 "
                            "with its scales, found ModelOpt W4A8_AWQ");
}

// A config may have lost its quantization_config; the tensors have not.
TEST(QuantizationConfig, OtherFormatsAreKnownByTheirTensors) {
  const test::TemporaryFolder tmp;
  test::write_file(tmp / "config.json", "{}");
  const std::pair<std::string, std::string> cases[] = {
      {"qweight", "GPTQ or AWQ"},
      {"weight.absmax", "bitsandbytes 4 bit"},
      {"SCB", "bitsandbytes LLM.int8()"},
      {"weight_packed", "packed compressed-tensors"},
      {"weight_scale_2", "NVFP4"},
      {"down_proj_blocks", "MXFP4"},
      {"W_q", "HQQ"},
  };
  for (const auto& [end, format] : cases) {
    const std::string name = "model.layers.0.mlp.up_proj." + end;
    save_safetensors(tmp / "model.safetensors", {{name, torch::ones({2}, torch::kInt32)}});
    expect_error<FormatError>([&] { Checkpoint::open(tmp.path()); },
                              name +
                                  ": expected plain weights or FP8 with its scales, found a "
                                  "tensor of " +
                                  format);
  }
}

}  // namespace
}  // namespace schmidt::io
