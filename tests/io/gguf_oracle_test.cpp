#include <cstdlib>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_data.h"

#include "tests/support/support.h"

// Files of the gguf package, and what it and transformers make of them.

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path oracle(const std::string& name) { return test::oracle_dir() / "io" / name; }

TEST(GgufOracle, EveryFormatBitForBit) {
  const GgufFile file = GgufFile::open(oracle("formats.gguf"));
  const auto truth = load_safetensors(oracle("formats.safetensors"));
  EXPECT_EQ(file.tensors().size(), quant::formats().size());
  for (const quant::Format& format : quant::formats()) {
    SCOPED_TRACE(format.name);
    const std::string name(format.name);
    const GgufTensor& stored = file.tensors().at(name);
    EXPECT_EQ(stored.format, &format);
    const torch::Tensor decoded = decode_tensor(stored.bytes, format, stored.shape);
    EXPECT_EQ(decoded.scalar_type(), truth.at(name).scalar_type());
    EXPECT_TRUE(torch::equal(decoded, truth.at(name)))
        << (decoded - truth.at(name)).abs().max().item<float>();
  }
}

TEST(GgufOracle, EveryTypeOfMetadata) {
  const GgufFile file = GgufFile::open(oracle("metadata.gguf"));
  const auto integer = [&](const char* type) { return file.get_int(std::string("x.") + type); };
  EXPECT_EQ(integer("uint8"), 255);
  EXPECT_EQ(integer("int8"), -128);
  EXPECT_EQ(integer("uint16"), 65535);
  EXPECT_EQ(integer("int16"), -32768);
  EXPECT_EQ(integer("uint32"), 4294967295);
  EXPECT_EQ(integer("int32"), -2147483648);
  EXPECT_EQ(integer("uint64"), INT64_MAX);
  EXPECT_EQ(integer("int64"), INT64_MIN);
  EXPECT_EQ(file.get_float("x.float32"), 0.1F);
  EXPECT_EQ(file.get_float("x.float64"), 0.1);
  EXPECT_EQ(file.get_bool("x.bool"), true);
  EXPECT_EQ(file.get_string("x.string"), "é\n");
  EXPECT_EQ(file.get_strings("x.strings"), (std::vector<std::string>{"a", "", "ß"}));
  EXPECT_EQ(file.get_ints("x.ints"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file.get_floats("x.floats"), (std::vector<float>{0.5, -1.25}));
  EXPECT_EQ(std::get<std::vector<bool>>(file.metadata().at("x.bools").data),
            (std::vector<bool>{true, false}));
  const auto& arrays = std::get<GgufArrays>(file.metadata().at("x.arrays").data);
  ASSERT_EQ(arrays.size(), 2U);
  EXPECT_EQ(std::get<std::vector<int64_t>>(arrays[0].data), (std::vector<int64_t>{1, 2}));

  const GgufTensor& t = file.tensors().at("t");
  EXPECT_TRUE(torch::equal(decode_tensor(t.bytes, *t.format, t.shape),
                           torch::arange(6, torch::kFloat32).reshape({2, 3})));
}

// Every key that transformers reads from GGUF too has its value, up to the float32 of eps.
void expect_same_config(const json& ours, const json& theirs, const std::vector<const char*>& but) {
  for (const auto& [key, value] : ours.items()) {
    SCOPED_TRACE(key);
    if (std::ranges::find(but, key) != but.end()) continue;
    if (key == "architectures" || key == "torch_dtype") continue;  // not in its view of GGUF
    if (key == "rope_theta") {
      EXPECT_EQ(value, theirs.at("rope_parameters").at("rope_theta"));
    } else if (key == "rope_scaling") {
      EXPECT_TRUE(value.is_null());
      EXPECT_EQ(theirs.at("rope_parameters").at("rope_type"), "default");
    } else if (value.is_number_float()) {
      EXPECT_EQ(value.get<float>(), theirs.at(key).get<float>());
    } else {
      EXPECT_EQ(value, theirs.at(key));
    }
  }
}

// Writes `checkpoint` as a folder of small shards.
void write_folder(const Checkpoint& checkpoint, const fs::path& folder) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, info] : checkpoint.tensors()) {
    specs.push_back({name, info.dtype, info.shape});
  }
  SafetensorsWriter writer(folder, specs, {{"format", "pt"}}, 50'000);
  for (const TensorSpec& spec : specs) writer.write(spec.name, checkpoint.load(spec.name));
  writer.finish();
  write_file_atomically(folder / "config.json", checkpoint.config().dump(2));
}

constexpr const char* kFamilies[] = {"llama", "mistral", "qwen2", "qwen3"};

class GgufFamily : public testing::TestWithParam<const char*> {};

TEST_P(GgufFamily, IsWhatTransformersReads) {
  const std::string family = GetParam();
  const Checkpoint checkpoint = Checkpoint::open(oracle(family) / "model.gguf");
  const auto truth = load_safetensors(oracle(family) / "truth.safetensors");
  EXPECT_TRUE(checkpoint.is_gguf());
  EXPECT_EQ(checkpoint.tensors().size(), truth.size());
  for (const auto& [name, tensor] : truth) {
    ASSERT_TRUE(checkpoint.tensors().contains(name)) << name;
    EXPECT_EQ(checkpoint.tensors().at(name).shape, tensor.sizes().vec()) << name;
    EXPECT_TRUE(torch::equal(checkpoint.load(name), tensor)) << name;
    const EncodedTensor encoded = checkpoint.load_encoded(name);
    EXPECT_TRUE(decode_tensor(encoded.bytes, *encoded.format, encoded.shape).equal(tensor)) << name;
  }

  // It takes a Mistral for a Llama and does not read Qwen's head size.
  const json theirs = read_json(oracle(family) / "truth.json");
  expect_same_config(checkpoint.config(), theirs,
                     family == "mistral"
                         ? std::vector<const char*>{"model_type", "sliding_window"}
                         : std::vector<const char*>{family == "llama" ? "" : "head_dim"});
  EXPECT_EQ(checkpoint.config().at("model_type"), family);
}

INSTANTIATE_TEST_SUITE_P(All, GgufFamily, testing::ValuesIn(kFamilies),
                         [](const auto& family) { return std::string(family.param); });

TEST(GgufOracle, TransformersReadsTheFoldersWrittenFromThem) {
  const fs::path root = test::source_dir();
  SCHMIDT_REQUIRE_PATH(root / ".venv/bin/python");
  test::TemporaryFolder tmp;
  std::string command =
      fmt::format("HF_HUB_OFFLINE=1 '{}' '{}'", (root / ".venv/bin/python").string(),
                  (root / "tests/io/read_folder.py").string());
  for (const std::string family : kFamilies) {
    fs::create_directory(tmp / family);
    write_folder(Checkpoint::open(oracle(family) / "model.gguf"), tmp / family);
    EXPECT_TRUE(fs::exists(tmp / family / "model.safetensors.index.json"));
    command += fmt::format(" '{}' '{}'", (tmp / family).string(),
                           (oracle(family) / "truth.safetensors").string());
  }
  command += fmt::format(" > '{}' 2> '{}'", (tmp / "out").string(), (tmp / "errors").string());
  ASSERT_EQ(std::system(command.c_str()), 0) << test::read_file(tmp / "errors");

  const json configs = json::parse(test::read_file(tmp / "out"));
  for (size_t i = 0; i < std::size(kFamilies); ++i) {
    SCOPED_TRACE(kFamilies[i]);
    expect_same_config(read_json(tmp / kFamilies[i] / "config.json"), configs.at(i), {});
  }
}

TEST(GgufOracle, Llama31ScalingComesFromItsFactors) {
  const GgufModel model = open_gguf_model(oracle("llama3.gguf"));
  EXPECT_EQ(model.config.at("rope_scaling"), (json{{"rope_type", "llama3"},
                                                   {"factor", 8.0},
                                                   {"low_freq_factor", 1.0},
                                                   {"high_freq_factor", 4.0},
                                                   {"original_max_position_embeddings", 8192}}));
  EXPECT_FALSE(model.tensors.contains("rope_freqs.weight"));
}

TEST(GgufOracle, SmolLM2) {
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  SCHMIDT_REQUIRE_PATH(oracle("smollm2.json"));
  const Checkpoint checkpoint = Checkpoint::open(test::smollm2_path());
  expect_same_config(checkpoint.config(), read_json(oracle("smollm2.config.json")), {});
  EXPECT_EQ(checkpoint.config().at("rms_norm_eps"), 1e-5);

  const EncodedTensor q = checkpoint.load_encoded("model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(q.format->name, "Q4_1");  // held as it is stored
  EXPECT_TRUE(decode_tensor(q.bytes, *q.format, q.shape)
                  .equal(checkpoint.load("model.layers.3.self_attn.q_proj.weight")));

  const json summary = read_json(oracle("smollm2.json"));
  EXPECT_EQ(checkpoint.tensors().size(), summary.size());
  for (const auto& [name, expected] : summary.items()) {
    ASSERT_TRUE(checkpoint.tensors().contains(name)) << name;
    const torch::Tensor tensor = checkpoint.load(name);
    EXPECT_EQ(tensor.sizes().vec(), expected.at("shape").get<std::vector<int64_t>>()) << name;
    EXPECT_NEAR(tensor.sum(torch::kFloat64).item<double>(), expected.at("sum").get<double>(), 1e-5)
        << name;
  }
  for (const auto& [name, tensor] : load_safetensors(oracle("smollm2.safetensors"))) {
    EXPECT_TRUE(torch::equal(checkpoint.load(name), tensor)) << name;
  }
}

}  // namespace
}  // namespace schmidt::io
