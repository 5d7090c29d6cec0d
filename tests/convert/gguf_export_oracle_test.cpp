#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/convert/gguf_file.h"
#include "schmidt/io/gguf.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_data.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

// What the gguf package makes of exported files, and the real model through them.

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;

void expect_read_by_package(const fs::path& path) {
  const std::string out = path.string();  // of what the package read, without its endings
  const io::GgufFile file = io::GgufFile::open(path);
  const auto truth = io::load_safetensors(out + ".safetensors");
  const nlohmann::json said = io::read_json(out + ".json");
  ASSERT_EQ(truth.size(), file.tensors().size());
  for (const auto& [name, tensor] : file.tensors()) {
    EXPECT_EQ(said["types"][name], tensor.format->name) << name;
    const torch::Tensor ours =
        io::decode_tensor(tensor.bytes, *tensor.format, tensor.shape).to(torch::kFloat32);
    EXPECT_TRUE(torch::equal(ours, truth.at(name))) << name;
  }
  EXPECT_EQ(said["metadata"].size(), file.metadata().size());
  for (const auto& [key, value] : said["metadata"].items()) {
    if (value.is_string()) {
      EXPECT_EQ(file.get_string(key), value.get<std::string>()) << key;
    } else if (value.is_number_integer()) {
      EXPECT_EQ(file.get_int(key), value.get<int64_t>()) << key;
    }
  }
}

TEST(GgufExportOracle, ThePackageReadsEveryTypeThatIsWritten) {
  const test::TemporaryFolder tmp;
  test::TinyModel model = test::make_tiny_model(1, 1, 32);
  model.config["intermediate_size"] = 768;  // blocks of 256 in every row
  for (auto& [name, tensor] : model.tensors) {
    const int64_t side = name.ends_with("down_proj.weight") ? 1 : 0;
    if (tensor.size(side) == 1152) tensor = tensor.narrow(side, 0, 768).clone();
  }
  const fs::path folder = test::write_model(model, tmp / "m");
  test::write_byte_tokenizer(folder, {.merges = {"h e", "l l"}});
  std::string command = "read_gguf.py";
  std::vector<fs::path> files;
  for (const quant::Format& format : quant::formats()) {
    files.push_back(tmp / std::string(format.name));
    write_gguf_model(io::Checkpoint::open(folder), {.type = &format}, files.back());
    command += fmt::format(" {0} {0}", files.back().string());
  }
  ASSERT_TRUE(test::run_python(tmp, command));
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.filename().string());
    expect_read_by_package(file);
  }
}

TEST(GgufExportOracle, TheRealModelKeepsItsIdsAndItsPerplexity) {
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  const test::TemporaryFolder tmp;
  const io::Checkpoint original = io::Checkpoint::open(test::smollm2_path());
  const text::Tokenizer tokenizer = text::Tokenizer::load(original.path());
  const std::string text = test::read_file(test::source_dir() / "ARCHITECTURE.md");
  const auto loss = [&](const io::Checkpoint& checkpoint) {
    auto ids = tokenizer.encode(text);
    ids.resize(256);
    const torch::NoGradGuard no_grad;
    const torch::Tensor row = torch::tensor(ids).unsqueeze(0);
    const torch::Tensor logits = model::Model::load(checkpoint).forward(row)[0];
    return torch::nn::functional::cross_entropy(logits.slice(0, 0, -1), row[0].slice(0, 1))
        .item<double>();
  };
  const double before = loss(original);
  struct Case {
    const char* type;
    double tolerance;  // nats
  };
  for (const auto& [type, tolerance] : {Case{nullptr, 0}, Case{"F32", 1e-6}, Case{"Q8_0", 5e-3}}) {
    const fs::path file = tmp / "again.gguf";
    write_gguf_model(original, {.type = type ? quant::find_format(type) : nullptr}, file);
    EXPECT_EQ(text::Tokenizer::load(file).encode(text), tokenizer.encode(text));
    EXPECT_NEAR(loss(io::Checkpoint::open(file)), before, tolerance) << (type ? type : "as it is");
    if (type == nullptr) {
      const io::GgufFile a = io::GgufFile::open(original.path()), b = io::GgufFile::open(file);
      for (const auto& [name, tensor] : a.tensors()) {
        EXPECT_EQ(b.tensors().at(name).bytes, tensor.bytes) << name;
      }
    }
  }
}

}  // namespace
}  // namespace schmidt::convert
