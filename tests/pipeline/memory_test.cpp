#include <cstdio>
#include <fstream>
#include <string>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "schmidt/model/model.h"
#include "schmidt/package/summary.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// Bytes that the system says of this process; 0 where it does not.
int64_t process_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

/// Lets the peak begin anew. False where the system does not do that.
bool forget_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return static_cast<bool>(file);
}

/// Every large block apart, so that what one model has freed is no room for parts of the next:
/// each is to be measured as the first one of a process.
void keep_large_blocks_apart() {
#if defined(__GLIBC__)
  ::mallopt(M_MMAP_THRESHOLD, 1 << 18);  // it rises otherwise with what is freed
#endif
}

void give_back_freed() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

/// Beside a model while it is loaded: pieces of a tensor that are copied and checked.
constexpr double kPieces = 4e6;

/// Random weights of 76 MB in float32, a quarter of them the embedding and the output layer.
class Memory : public testing::Test {
 protected:
  Memory() {
    at::set_num_threads(1);
    keep_large_blocks_apart();
    constexpr int64_t kVocabulary = 4096;
    test::TinyModel model = test::make_tiny_model(4, 1, 28);
    model.config["vocab_size"] = kVocabulary;
    model.config["tie_word_embeddings"] = false;
    const int64_t hidden = model.config["hidden_size"];
    model.tensors["model.embed_tokens.weight"] = torch::randn({kVocabulary, hidden}) * 0.1;
    model.tensors["lm_head.weight"] = torch::randn({kVocabulary, hidden}) * 0.1;
    test::write_model(model, tmp / "original");
  }

  void compress(const std::string& out, torch::ScalarType dtype) const {
    CompressRecipe recipe;
    recipe.keep = 0.5;
    recipe.shape.low_rank = true;
    recipe.method = "tt-svd";
    recipe.dtype = dtype;
    compress_model(io::Checkpoint::open(tmp / "original"), recipe, {.out = tmp / out}, {});
  }

  void quantize(const std::string& from, const std::string& out, int bits) const {
    const io::Checkpoint model = io::Checkpoint::open(tmp / from);
    QuantizeRecipe recipe;
    recipe.bits = bits;
    recipe.group = 48;
    recipe.method = "nearest";
    recipe.vocabulary_bits = 8;
    recipe.selection.include = {"all"};
    compress_model(model, compress_recipe(recipe, model), {.out = tmp / out}, {});
  }

  /// That a model takes at most 1.15 times its file when it is loaded, and little more before.
  void expect_little(const std::string& name, torch::ScalarType dtype = torch::kFloat32) const {
    const io::Checkpoint checkpoint = io::Checkpoint::open(tmp / name);
    const auto file = static_cast<double>(package::summarize(checkpoint).bytes);
    // What the first use of each operation takes from the system stays.
    model::Model::load(checkpoint, {dtype});
    give_back_freed();
    const bool measures_peak = forget_peak();
    const int64_t before = process_bytes("VmRSS");
    const model::Model model = model::Model::load(checkpoint, {dtype});
    const int64_t peak = process_bytes("VmHWM") - before;
    give_back_freed();
    const int64_t after = process_bytes("VmRSS") - before;
    EXPECT_GT(static_cast<double>(after), 0.8 * file) << name << ": was it loaded at all?";
    EXPECT_LT(static_cast<double>(after), 1.15 * file) << name << " of " << file;
    if (measures_peak) {
      EXPECT_LT(static_cast<double>(peak), 1.15 * file + kPieces) << name << " of " << file;
    }
    std::printf("%-12s file %.1f MB, loaded %.3f of it, at most %.3f\n", name.c_str(), 1e-6 * file,
                static_cast<double>(after) / file, static_cast<double>(peak) / file);
  }

  test::TemporaryFolder tmp;
};

TEST_F(Memory, ALoadedModelTakesLittleMoreThanItsFile) {
  if (process_bytes("VmRSS") == 0) GTEST_SKIP() << "the system does not say what a process takes";
  quantize("original", "int8", 8);
  quantize("original", "int4", 4);
  quantize("original", "int2", 2);
  compress("half", torch::kBFloat16);
  quantize("half", "half-int4", 4);
  expect_little("original");
  for (const char* name : {"int8", "int4", "int2", "half-int4"}) expect_little(name);
  expect_little("half", torch::kBFloat16);
}

}  // namespace
}  // namespace schmidt::pipeline
