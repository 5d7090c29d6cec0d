#include "schmidt/convert/adapter.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_data.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/export_model.h"
#include "schmidt/plan/layers.h"
#include "schmidt/tn/site_shape.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using pipeline::ExportTarget;

const torch::Tensor kIds = torch::tensor({{5, 9, 200, 7, 31}});

class AdapterTest : public testing::Test {
 protected:
  /// Integers of few bits and, in 8 bits, a low rank of what their rounding loses.
  fs::path sums() {
    const fs::path folder = test::write_model(test::make_tiny_model(2, 1, 16), tmp / "m");
    test::write_byte_tokenizer(folder);
    const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
    pipeline::CompressRecipe recipe;
    recipe.plan = plan::PlanFile{};
    for (const plan::Layer& layer : plan::dense_layers(checkpoint)) {
      plan::LayerPlan p{.layer = layer, .method = "nearest"};
      p.shape = tn::low_rank_shape(layer.rows, layer.cols);
      p.max_bonds = {layer.block == 0 ? 8 : 16};
      p.factor_integers = {8, 8, false};
      p.integers = {4, 32, true};
      recipe.plan->layers.push_back(p);
    }
    compress_model(checkpoint, recipe, {.out = tmp / "c"}, {});
    return tmp / "c";
  }

  fs::path exported(const fs::path& from, ExportTarget to, const std::string& name) {
    pipeline::export_model(
        io::Checkpoint::open(from),
        {.target = to,
         .dtype = torch::kFloat32,
         .type = to == ExportTarget::kGguf ? quant::find_format("F32") : nullptr},
        {.out = tmp / name}, {});
    return tmp / name;
  }

  static torch::Tensor logits(const fs::path& path) {
    return model::Model::load(io::Checkpoint::open(path)).forward(kIds);
  }

  static double difference(const torch::Tensor& a, const torch::Tensor& b) {
    return (a - b).abs().max().item<double>();
  }

  /// The base model with scale * B A added to its weights, by llama.cpp's rule.
  static torch::Tensor applied_gguf(const fs::path& folder) {
    const io::Checkpoint base = io::Checkpoint::open(folder / kBaseGguf);
    const io::GgufFile base_file = io::GgufFile::open(folder / kBaseGguf);
    const io::GgufFile adapter = io::GgufFile::open(folder / kLowRankGguf);
    EXPECT_EQ(adapter.get_string("general.type"), "adapter");
    EXPECT_EQ(adapter.get_string("adapter.type"), "lora");
    EXPECT_EQ(adapter.get_string("general.architecture"), "llama");
    const double alpha = adapter.get_float("adapter.lora.alpha").value();
    const auto load = [](const io::GgufTensor& t) {
      return io::decode_tensor(t.bytes, *t.format, t.shape).to(torch::kFloat32);
    };
    std::map<std::string, torch::Tensor> tensors;
    for (const auto& [name, info] : base.tensors()) tensors[name] = base.load(name);
    const io::GgufModel names = io::as_hugging_face(base_file);
    for (const auto& [name, weight] : names.tensors) {
      for (const auto& [gguf, stored] : base_file.tensors()) {
        const auto a = adapter.tensors().find(gguf + ".lora_a");
        if (stored.bytes.data() != weight.bytes.data()) continue;
        if (a == adapter.tensors().end()) continue;
        const torch::Tensor b = load(adapter.tensors().at(gguf + ".lora_b"));
        const torch::Tensor sum =
            load(stored) + torch::matmul(b, load(a->second)) * (alpha / b.size(1));
        const std::string bytes = io::encode_tensor(sum, *quant::find_format("F32"), name);
        tensors[name] = io::load_tensor(
            {quant::find_format("F32"), stored.shape, bytes, weight.interleaved_heads});
      }
    }
    return model::Model::load(base.config(), model::Weights(tensors, folder)).forward(kIds);
  }

  test::TemporaryFolder tmp;
};

TEST_F(AdapterTest, AGgufBaseAndItsAdapterAreTheModel) {
  const fs::path model = sums();
  const fs::path out = exported(model, ExportTarget::kGguf, "g");
  EXPECT_LT(difference(applied_gguf(out), logits(model)), 1e-4);
  EXPECT_GT(difference(logits(out / kBaseGguf), logits(model)), 1e-3);
  // Of layers without types asked for the integers stay.
  pipeline::export_model(io::Checkpoint::open(model), {.target = ExportTarget::kGguf},
                         {.out = tmp / "small"}, {});
  EXPECT_EQ(io::Checkpoint::open(tmp / "small" / kBaseGguf)
                .tensors()
                .at("model.layers.0.mlp.up_proj.weight")
                .stored_as,
            "Q4_0");
  EXPECT_LT(difference(applied_gguf(tmp / "small"), logits(model)), 1e-2);
  // A name of a file asks for one.
  const fs::path file = exported(model, ExportTarget::kGguf, "one.gguf");
  EXPECT_TRUE(fs::is_regular_file(file));
  EXPECT_LT(difference(logits(file), logits(model)), 1e-4);
}

// A network and a low rank, of layers stored as one with biases too.
TEST_F(AdapterTest, LowRanksInNetworksAreAdaptersToo) {
  const fs::path model = test::write_model(test::make_compressed_model().compressed, tmp / "n");
  test::write_byte_tokenizer(model);
  const fs::path out = exported(model, ExportTarget::kGguf, "g");
  const io::GgufFile adapter = io::GgufFile::open(out / kLowRankGguf);
  std::set<std::string> names;
  for (const auto& [name, tensor] : adapter.tensors()) names.insert(name);
  EXPECT_EQ(names,
            (std::set<std::string>{"blk.1.ffn_down.weight.lora_a", "blk.1.ffn_down.weight.lora_b",
                                   "blk.1.ffn_gate.weight.lora_a", "blk.1.ffn_gate.weight.lora_b",
                                   "blk.1.ffn_up.weight.lora_a", "blk.1.ffn_up.weight.lora_b"}));
  EXPECT_LT(difference(applied_gguf(out), logits(model)), 1e-5);
}

TEST_F(AdapterTest, PeftsBaseAndAdapterAreTheModel) {
  const fs::path model = sums();
  const fs::path out = exported(model, ExportTarget::kPeft, "p");
  const json config = json::parse(test::read_file(out / "adapter_config.json"));
  const auto adapter = io::load_safetensors(out / "adapter_model.safetensors");
  const io::Checkpoint base = io::Checkpoint::open(out / kBaseFolder);
  EXPECT_FALSE(base.config().contains("compression_config"));
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, info] : base.tensors()) tensors[name] = base.load(name);
  EXPECT_EQ(config["target_modules"].size(), 14U);
  for (const std::string layer : config["target_modules"]) {
    const int64_t r = config["rank_pattern"].value(layer, config["r"].get<int64_t>());
    const int64_t alpha = config["alpha_pattern"].value(layer, config["lora_alpha"].get<int64_t>());
    EXPECT_EQ(r, layer.starts_with("model.layers.0.") ? 8 : 16);
    const torch::Tensor& a = adapter.at("base_model.model." + layer + ".lora_A.weight");
    const torch::Tensor& b = adapter.at("base_model.model." + layer + ".lora_B.weight");
    EXPECT_EQ(a.size(0), r);
    tensors[layer + ".weight"] += torch::matmul(b, a) * (static_cast<double>(alpha) / r);
  }
  const torch::Tensor ours =
      model::Model::load(base.config(), model::Weights(tensors, out)).forward(kIds);
  EXPECT_LT(difference(ours, logits(model)), 1e-4);

  const std::string result = (tmp / "logits.safetensors").string();
  const fs::path root = test::source_dir();
  SCHMIDT_REQUIRE_PATH(root / ".venv/bin/python");
  const int status = std::system(fmt::format("HF_HUB_OFFLINE=1 {} {} {} {} 5,9,200,7,31 {}",
                                             (root / ".venv/bin/python").string(),
                                             (root / "python/peft_logits.py").string(),
                                             (out / kBaseFolder).string(), out.string(), result)
                                     .c_str());
  if (WEXITSTATUS(status) == 4) GTEST_SKIP() << "peft is absent: its rule alone was checked";
  ASSERT_EQ(status, 0);
  EXPECT_LT(difference(io::load_safetensors(result).at("logits"), logits(model)[0]), 1e-4);
}

TEST_F(AdapterTest, LowRanksBeyondTheTypeAreRefusedByName) {
  const fs::path model = sums();
  const json config = json::parse(test::read_file(model / "config.json"));
  const auto with_scales_times = [&](double by) {
    test::TinyModel changed{config, io::load_safetensors(model / "model.safetensors")};
    for (auto& [name, tensor] : changed.tensors) {
      if (name.find("left") == std::string::npos || !name.ends_with("weight_scale")) continue;
      tensor = tensor.to(torch::kFloat32) * by;
    }
    const fs::path folder = test::write_model(changed, tmp / "large");
    test::write_byte_tokenizer(folder);
    return io::Checkpoint::open(folder);
  };
  const auto run = [&](const io::Checkpoint& of, ExportTarget to, torch::ScalarType dtype) {
    pipeline::export_model(
        of,
        {.target = to,
         .dtype = dtype,
         .type = to == ExportTarget::kGguf
                     ? quant::find_format(dtype == torch::kFloat32 ? "F32" : "Q8_0")
                     : nullptr},
        {.out = tmp / "o", .force = true}, {});
  };
  for (const ExportTarget to : {ExportTarget::kPeft, ExportTarget::kGguf}) {
    try {
      run(with_scales_times(1e8), to, torch::kFloat16);
      ADD_FAILURE() << "expected a refusal";
    } catch (const c10::ValueError& e) {
      const std::string what = e.what_without_backtrace();
      EXPECT_NE(what.find("can hold"), std::string::npos) << what;
      EXPECT_NE(what.find(to == ExportTarget::kPeft ? "model.layers.0." : "blk.0."),
                std::string::npos)
          << what;
    }
    EXPECT_NO_THROW(run(with_scales_times(1e8), to, torch::kFloat32));
    EXPECT_THROW(run(with_scales_times(NAN), to, torch::kFloat32), FormatError);
    fs::remove_all(tmp / "o");
  }
}

TEST_F(AdapterTest, AModelWithoutSuchLayersIsRefused) {
  const fs::path folder = test::write_model(test::make_tiny_model(), tmp / "m");
  EXPECT_THROW(exported(folder, ExportTarget::kPeft, "p"), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "p"));
  EXPECT_FALSE(fs::exists(tmp / "p.partial"));
}

TEST_F(AdapterTest, ForceReplacesThemAlone) {
  const fs::path model = sums();
  const io::Checkpoint checkpoint = io::Checkpoint::open(model);
  for (const ExportTarget to : {ExportTarget::kGguf, ExportTarget::kPeft}) {
    const fs::path out = exported(model, to, to == ExportTarget::kGguf ? "g" : "p");
    const auto again = [&](bool force) {
      pipeline::export_model(checkpoint, {.target = to}, {.out = out, .force = force}, {});
    };
    EXPECT_THROW(again(false), c10::ValueError);
    again(true);
    test::write_file(out / "notes.txt", "mine");
    EXPECT_THROW(again(true), c10::ValueError);
    fs::remove(out / "notes.txt");
  }
  test::write_file(tmp / "g" / kBaseGguf, "GGUF of another");
  EXPECT_THROW(pipeline::export_model(checkpoint, {.target = ExportTarget::kGguf},
                                      {.out = tmp / "g", .force = true}, {}),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::convert
