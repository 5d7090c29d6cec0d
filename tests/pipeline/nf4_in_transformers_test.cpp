#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/model.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

// NF4 between transformers with bitsandbytes and this library, both ways.

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, torch::Tensor>;

fs::path oracle(const std::string& name) { return test::oracle_dir() / "rounding" / name; }

torch::Tensor logits_of(const io::Checkpoint& checkpoint, const torch::Tensor& ids) {
  return model::Model::load(checkpoint).forward(ids)[0];
}

/// The weight of a layer in NF4, unpacked.
torch::Tensor unpacked(const io::Checkpoint& checkpoint, const std::string& layer) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  for (const model::LayerSpec& spec : model::block_layers(config)) {
    if (spec.name != layer) continue;
    return model::load_layer({spec, config.compressed_layers.at(layer)}, model::Weights(checkpoint))
        ->weight();
  }
  throw std::out_of_range(layer);
}

void expect_same(const io::Checkpoint& checkpoint, const torch::Tensor& ids, const Tensors& truth) {
  int64_t weights = 0;
  for (const auto& [name, expected] : truth) {
    if (!name.ends_with(".weight")) continue;
    const std::string layer = name.substr(0, name.size() - std::string(".weight").size());
    const torch::Tensor ours = unpacked(checkpoint, layer);
    EXPECT_LE((ours - expected).abs().max().item<float>(),
              1e-6F * expected.abs().max().item<float>())
        << name;
    ++weights;
  }
  EXPECT_EQ(weights, 2 * 7);
  EXPECT_LT((logits_of(checkpoint, ids) - truth.at("logits")).abs().max().item<float>(), 2e-5);
}

const torch::Tensor kIds = torch::tensor({{5, 9, 200, 7, 31, 77}});

/// Rows of whole blocks: bitsandbytes 0.50 multiplies others wrongly on processors with AVX-512.
constexpr int64_t kScale = 16;

class Nf4InTransformers : public testing::Test {
 protected:
  fs::path quantize(std::optional<int> vocabulary_bits) {
    QuantizeRecipe recipe;
    recipe.nf4 = true;
    recipe.vocabulary_bits = vocabulary_bits;
    compress_model(checkpoint, compress_recipe(recipe, checkpoint), {.out = tmp / "q"}, {});
    return tmp / "q";
  }

  Tensors python(const std::string& script, const fs::path& folder) {
    const std::string out = (tmp / "out.safetensors").string();
    test::run_python(tmp, fmt::format("{} {} 5,9,200,7,31,77 {}", script, folder.string(), out));
    return io::load_safetensors(out);
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 1, kScale), tmp / "m"));
};

TEST_F(Nf4InTransformers, OpensWithoutCodeOfOurs) {
  const fs::path folder = quantize(std::nullopt);
  EXPECT_FALSE(fs::exists(folder / "modeling_schmidt.py"));
  expect_same(io::Checkpoint::open(folder), kIds, python("bitsandbytes_logits.py", folder));
}

TEST_F(Nf4InTransformers, BesideAQuantizedEmbeddingItOpensWithTheFoldersCode) {
  const fs::path folder = quantize(8);
  EXPECT_TRUE(fs::exists(folder / "modeling_schmidt.py"));
  const torch::Tensor theirs = python("huggingface_logits.py", folder).at("logits");
  const torch::Tensor ours = logits_of(io::Checkpoint::open(folder), kIds);
  EXPECT_LT((ours - theirs).abs().max().item<float>(), 2e-5);
  fs::create_directories(tmp / "scratch");
  test::run_python(
      tmp, fmt::format("check_quantized.py {} {}", folder.string(), (tmp / "scratch").string()));
  const torch::Tensor saved = logits_of(io::Checkpoint::open(tmp / "scratch/saved"), kIds);
  EXPECT_TRUE(torch::equal(saved, ours)) << "what transformers has saved opens here";
}

TEST_F(Nf4InTransformers, ReadsWhatItHasWritten) {
  for (const char* name : {"nf4_double", "nf4_plain"}) {
    SCOPED_TRACE(name);
    const Tensors truth = io::load_safetensors(oracle(std::string(name) + ".safetensors"));
    expect_same(io::Checkpoint::open(oracle(name)), kIds, truth);
  }
}

TEST_F(Nf4InTransformers, RefusesFp4AndLlmInt8ByName) {
  const auto message = [](const fs::path& folder) -> std::string {
    try {
      io::Checkpoint::open(folder);
    } catch (const FormatError& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  EXPECT_NE(message(oracle("fp4")).find("found bitsandbytes fp4, which is not read"),
            std::string::npos);
  EXPECT_NE(message(oracle("int8")).find("found bitsandbytes LLM.int8(), which is not read"),
            std::string::npos);
  // The tensors speak for themselves where the config does not.
  for (const auto& [name, says] :
       {std::pair{"fp4", "FP4 of bitsandbytes"}, std::pair{"int8", "bitsandbytes LLM.int8()"}}) {
    const fs::path folder = tmp / name;
    fs::copy(oracle(name), folder);
    auto config = nlohmann::json::parse(test::read_file(folder / "config.json"));
    config.erase("quantization_config");
    test::write_file(folder / "config.json", config.dump());
    EXPECT_NE(message(folder).find(says), std::string::npos) << message(folder);
  }
}

}  // namespace
}  // namespace schmidt::pipeline
