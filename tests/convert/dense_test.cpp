#include "schmidt/convert/dense.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/model/model.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/export_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;
using pipeline::ExportTarget;

const torch::Tensor kIds = torch::tensor({{5, 9, 200, 7, 31, 77}});

class DenseTest : public testing::Test {
 protected:
  static torch::Tensor logits(const fs::path& folder) {
    return model::Model::load(io::Checkpoint::open(folder)).forward(kIds);
  }

  static double difference(const fs::path& a, const fs::path& b) {
    return (logits(a) - logits(b)).abs().max().item<double>();
  }

  fs::path exported(const fs::path& from, const std::string& name,
                    const pipeline::ExportRecipe& recipe) {
    pipeline::export_model(io::Checkpoint::open(from), recipe, {.out = tmp / name}, {});
    return tmp / name;
  }

  static nlohmann::json config_of(const fs::path& folder) {
    return nlohmann::json::parse(test::read_file(folder / "config.json"));
  }

  test::TemporaryFolder tmp;
  test::CompressedModel models = test::make_compressed_model();
};

// Networks of every form and sums of them, single layers and layers stored as one, with biases.
TEST_F(DenseTest, EveryFormOfNetworksIsTheMatrixThatItStandsFor) {
  const fs::path compressed = test::write_model(models.compressed, tmp / "c");
  test::write_byte_tokenizer(compressed);
  const fs::path out = exported(compressed, "d", {.target = ExportTarget::kDense});
  const io::Checkpoint dense = io::Checkpoint::open(out);
  EXPECT_EQ(dense.tensors().size(), models.dense.tensors.size());
  for (const auto& [name, expected] : models.dense.tensors) {
    const torch::Tensor found = dense.load(name);
    EXPECT_EQ(found.sizes(), expected.sizes()) << name;
    EXPECT_LE((found - expected).abs().max().item<double>(), 1e-5) << name;
  }
  EXPECT_LT(difference(compressed, out), 1e-5);
  const nlohmann::json config = config_of(out);
  for (const char* key : {"compression_config", "quantization_config", "auto_map"}) {
    EXPECT_FALSE(config.contains(key)) << key;
  }
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(out)) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"config.json", "model.safetensors", "tokenizer.json",
                                          "tokenizer_config.json", "README.md"}));
}

TEST_F(DenseTest, IntegersNf4AndACompressedHeadToo) {
  const fs::path plain = test::write_model(models.dense, tmp / "m");
  const auto quantize = [&](const std::string& name, bool nf4) {
    const io::Checkpoint checkpoint = io::Checkpoint::open(plain);
    pipeline::QuantizeRecipe recipe;
    recipe.bits = 4;
    recipe.nf4 = nf4;
    if (!nf4) {
      recipe.group = 12;
      recipe.method = "nearest";
      recipe.vocabulary_bits = 8;
    }
    compress_model(checkpoint, pipeline::compress_recipe(recipe, checkpoint), {.out = tmp / name},
                   {});
    return tmp / name;
  };
  for (const bool nf4 : {false, true}) {
    const fs::path q = quantize(nf4 ? "nf4" : "int4", nf4);
    const fs::path out = exported(q, q.filename().string() + "_dense",
                                  {.target = ExportTarget::kDense, .dtype = torch::kFloat32});
    EXPECT_LT(difference(q, out), 1e-5);
    EXPECT_GT(difference(plain, out), 1e-3);
    EXPECT_TRUE(config_of(out)["tie_word_embeddings"].get<bool>());
  }

  // A head in a form of its own beside the embedding that it would be tied to.
  test::TinyModel headed = models.dense;
  const tn::Mpo network = test::random_network({{24, 11}, {6, 4}}, {5});
  for (const model::NamedTensor& t : model::network_tensors("lm_head", network)) {
    headed.tensors[t.name] = t.tensor;
  }
  nlohmann::json& form = headed.config["compression_config"]["layers"]["lm_head"];
  headed.config["compression_config"]["version"] = 1;
  form = model::network_form(network);
  form["kind"] = "mpo";
  const fs::path with_head = test::write_model(headed, tmp / "headed");
  const fs::path out = exported(with_head, "headed_dense", {.target = ExportTarget::kDense});
  EXPECT_LT(difference(with_head, out), 1e-5);
  EXPECT_FALSE(config_of(out)["tie_word_embeddings"].get<bool>());
}

// What is written from its integers is not multiplied out beside them.
TEST_F(DenseTest, IntegersThatStayAreNotMultipliedOut) {
  const io::Checkpoint plain =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
  pipeline::QuantizeRecipe recipe;
  recipe.bits = 4;
  recipe.group = 12;
  recipe.method = "nearest";
  recipe.vocabulary_bits = std::nullopt;
  compress_model(plain, pipeline::compress_recipe(recipe, plain), {.out = tmp / "q"}, {});
  const DenseModel model = dense_model(io::Checkpoint::open(tmp / "q"),
                                       {.stays_integers = [](const StoredGroup& integers) {
                                         return integers.layer.name.ends_with("q_proj");
                                       }});
  EXPECT_EQ(model.integers.size(), 14U);
  class Seen : public io::TensorWriter {
   public:
    void write(const std::string& name, const torch::Tensor& tensor) override {
      tensors[name] = tensor;
    }
    void finish() override {}
    std::map<std::string, torch::Tensor> tensors;
  } seen;
  model.weights.write_to(seen);
  for (const auto& [name, tensor] : seen.tensors) {
    EXPECT_EQ(tensor.defined(), !name.ends_with("q_proj.weight")) << name;
  }
  EXPECT_EQ(seen.tensors.size(), plain.tensors().size());
}

TEST_F(DenseTest, TheTypeIsTheModelsOrTheOneAskedFor) {
  test::TinyModel model = models.compressed;
  model.config["torch_dtype"] = "bfloat16";
  for (auto& [name, tensor] : model.tensors) {
    if (tensor.is_floating_point()) tensor = tensor.to(torch::kBFloat16);
  }
  const fs::path compressed = test::write_model(model, tmp / "c");
  const io::Checkpoint as_is =
      io::Checkpoint::open(exported(compressed, "bf16", {.target = ExportTarget::kDense}));
  const io::Checkpoint wide = io::Checkpoint::open(
      exported(compressed, "f32", {.target = ExportTarget::kDense, .dtype = torch::kFloat32}));
  for (const auto& [name, info] : as_is.tensors()) EXPECT_EQ(info.dtype, torch::kBFloat16) << name;
  for (const auto& [name, info] : wide.tensors()) EXPECT_EQ(info.dtype, torch::kFloat32) << name;
  EXPECT_EQ(as_is.config()["torch_dtype"], "bfloat16");
  EXPECT_EQ(wide.config()["torch_dtype"], "float32");
  EXPECT_LT(difference(compressed, tmp / "f32"), 1e-5);
}

TEST_F(DenseTest, ToTransformersChangesNoNumber) {
  const fs::path compressed = test::write_model(models.compressed, tmp / "c");
  const fs::path out = exported(compressed, "t", {.target = ExportTarget::kTransformers});
  const io::Checkpoint before = io::Checkpoint::open(compressed), after = io::Checkpoint::open(out);
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  for (const auto& [name, info] : before.tensors()) {
    EXPECT_TRUE(torch::equal(before.load(name), after.load(name))) << name;
  }
  EXPECT_EQ(before.config()["compression_config"], after.config()["compression_config"]);
  EXPECT_TRUE(fs::exists(out / "modeling_schmidt.py"));
  const fs::path plain = exported(test::write_model(models.dense, tmp / "m"), "p",
                                  {.target = ExportTarget::kTransformers});
  EXPECT_FALSE(fs::exists(plain / "modeling_schmidt.py"));
  EXPECT_FALSE(config_of(plain).contains("auto_map"));
}

// And nothing else, whatever its config.json says.
TEST_F(DenseTest, ForceReplacesAnExport) {
  const fs::path plain = test::write_model(models.dense, tmp / "m");
  const io::Checkpoint checkpoint = io::Checkpoint::open(plain);
  const pipeline::ExportRecipe recipe{.target = ExportTarget::kDense};
  const fs::path out = exported(plain, "d", recipe);
  EXPECT_THROW(pipeline::export_model(checkpoint, recipe, {.out = out}, {}), c10::ValueError);
  pipeline::export_model(checkpoint, recipe, {.out = out, .force = true}, {});
  fs::copy(plain, tmp / "copy", fs::copy_options::recursive);
  EXPECT_THROW(pipeline::export_model(checkpoint, recipe, {.out = tmp / "copy", .force = true}, {}),
               c10::ValueError);
  EXPECT_THROW(pipeline::export_model(checkpoint, recipe, {.out = plain, .force = true}, {}),
               c10::ValueError);
  test::write_file(out / "notes.txt", "mine");
  EXPECT_THROW(pipeline::export_model(checkpoint, recipe, {.out = out, .force = true}, {}),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::convert
