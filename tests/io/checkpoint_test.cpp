#include "schmidt/io/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/base/memory.h"
#include "schmidt/io/hf_folder.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_data.h"

#include "tests/io/expect_error.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

using test::expect_error;
namespace fs = std::filesystem;

// A folder with the tensors a [2] in the first of two shards, b [3] in the second.
class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : folder(tmp / "model") {
    fs::create_directory(folder);
    write("config.json", R"({"model_type": "llama"})");
    save_safetensors(folder / "1.safetensors", {{"a", a}});
    save_safetensors(folder / "2.safetensors", {{"b", b}});
    write_index("1.safetensors", "2.safetensors");
  }

  void write(const std::string& name, const std::string& text) const {
    test::write_file(folder / name, text);
  }

  void write_index(const std::string& shard_of_a, const std::string& shard_of_b) const {
    write("model.safetensors.index.json",
          nlohmann::json{{"weight_map", {{"a", shard_of_a}, {"b", shard_of_b}}}}.dump());
  }

  void expect_refused(const std::string& reason) const {
    expect_error<FormatError>([&] { Checkpoint::open(folder); }, reason);
  }

  test::TemporaryFolder tmp;
  fs::path folder;
  torch::Tensor a = torch::randn({2});
  torch::Tensor b = torch::randn({3}).to(torch::kBFloat16);
};

TEST_F(CheckpointTest, ReadsShards) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.path(), folder);
  EXPECT_FALSE(checkpoint.is_gguf());
  EXPECT_EQ(checkpoint.config().at("model_type"), "llama");
  EXPECT_TRUE(checkpoint.generation_config().is_object());
  ASSERT_EQ(checkpoint.tensors().size(), 2U);
  const TensorInfo& info = checkpoint.tensors().at("b");
  EXPECT_EQ(info.shape, std::vector<int64_t>{3});
  EXPECT_EQ(info.dtype, torch::kBFloat16);
  EXPECT_EQ(info.stored_as, "BF16");
  EXPECT_EQ(info.bytes, 6U);
  EXPECT_TRUE(torch::equal(checkpoint.load("a"), a));
  EXPECT_TRUE(torch::equal(checkpoint.load("b"), b));
  expect_error<c10::ValueError>([&] { checkpoint.load("c"); }, "got c");
}

TEST_F(CheckpointTest, LoadedTensorsOutliveTheCheckpoint) {
  const torch::Tensor loaded = Checkpoint::open(folder).load("a");
  const EncodedTensor encoded = Checkpoint::open(folder).load_encoded("b");
  fs::remove_all(folder);
  EXPECT_TRUE(torch::equal(loaded, a));
  EXPECT_TRUE(torch::equal(decode_tensor(encoded.bytes, *encoded.format, encoded.shape), b));
}

TEST_F(CheckpointTest, EncodedTensorsAreTheFilesBytes) {
  save_safetensors(folder / "1.safetensors", {{"a", a}, {"ids", torch::arange(3)}});
  write_index("1.safetensors", "2.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const EncodedTensor encoded = checkpoint.load_encoded("b");
  EXPECT_EQ(encoded.format, quant::find_format("BF16"));
  EXPECT_EQ(encoded.shape, std::vector<int64_t>{3});
  EXPECT_EQ(encoded.bytes.data(), checkpoint.stored_bytes("b").front().data())
      << "mapped, not copied";
  expect_error<c10::ValueError>([&] { checkpoint.load_encoded("ids"); },
                                "expected a tensor in one of F32, F16, BF16");
  expect_error<c10::ValueError>([&] { checkpoint.load_encoded("c"); }, "got c");
}

TEST_F(CheckpointTest, WhatWasReadDoesNotStayInMemory) {
  const torch::Tensor large = torch::randn({8 << 20});  // 32 MiB
  save_safetensors(folder / "1.safetensors", {{"a", large}});
  const Checkpoint checkpoint = Checkpoint::open(folder);
  for (int time = 0; time < 2; ++time) {
    const int64_t before = resident_bytes();
    const torch::Tensor read = checkpoint.load("a");
    EXPECT_LT(resident_bytes() - before, 40 << 20);  // the copy, not the file's pages too
    EXPECT_TRUE(read.equal(large));
  }
}

// Phi-3 stores q, k and v as one, and gate and up.
TEST_F(CheckpointTest, RowsOfFusedLayersAreReadAsLayers) {
  const std::string attention = "model.layers.0.self_attn.", mlp = "model.layers.0.mlp.";
  const torch::Tensor qkv = torch::randn({10, 4}), gate_up = torch::randn({6, 4});
  write("config.json",
        R"({"model_type": "phi3", "num_attention_heads": 3, "num_key_value_heads": 1})");
  save_safetensors(folder / "model.safetensors",
                   {{attention + "qkv_proj.weight", qkv}, {mlp + "gate_up_proj.weight", gate_up}});
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.tensors().size(), 5U);
  EXPECT_TRUE(torch::equal(checkpoint.load(attention + "q_proj.weight"), qkv.narrow(0, 0, 6)));
  EXPECT_TRUE(torch::equal(checkpoint.load(attention + "k_proj.weight"), qkv.narrow(0, 6, 2)));
  EXPECT_TRUE(torch::equal(checkpoint.load(attention + "v_proj.weight"), qkv.narrow(0, 8, 2)));
  EXPECT_TRUE(torch::equal(checkpoint.load(mlp + "gate_proj.weight"), gate_up.narrow(0, 0, 3)));
  EXPECT_TRUE(torch::equal(checkpoint.load(mlp + "up_proj.weight"), gate_up.narrow(0, 3, 3)));
  EXPECT_EQ(checkpoint.tensors().at(mlp + "up_proj.weight").bytes, 48U);
}

TEST_F(CheckpointTest, FusedRowsThatDoNotFitAreRefused) {
  const std::string name = "model.layers.0.self_attn.qkv_proj.weight";
  write("config.json", R"({"model_type": "phi3", "num_attention_heads": 3})");
  save_safetensors(folder / "model.safetensors", {{name, torch::randn({10, 4})}});
  expect_refused(name + ": expected rows of 9 parts of one size, found 10");
  save_safetensors(folder / "model.safetensors",
                   {{name, torch::randn({9, 4})},
                    {"model.layers.0.self_attn.k_proj.weight", torch::randn({3, 4})}});
  expect_refused("expected no such tensor beside " + name);
  // Of other models it is a name like any other.
  write("config.json", R"({"model_type": "llama", "num_attention_heads": 3})");
  EXPECT_TRUE(Checkpoint::open(folder).tensors().contains(name));
}

TEST_F(CheckpointTest, ReadsOneFileBeforeAnIndex) {
  save_safetensors(folder / "model.safetensors", {{"c", a}});
  write("generation_config.json", R"({"eos_token_id": [1, 2]})");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_EQ(checkpoint.tensors().size(), 1U);
  EXPECT_EQ(checkpoint.generation_config().at("eos_token_id").size(), 2U);
}

TEST_F(CheckpointTest, PathsThatAreNoModel) {
  expect_error<c10::ValueError>([&] { Checkpoint::open(tmp / "nothing"); }, "does not exist");
  expect_error<c10::ValueError>([&] { Checkpoint::open(folder / "config.json"); },
                                "expected a model folder or a GGUF file");
}

TEST_F(CheckpointTest, FoldersThatLackSomething) {
  fs::remove(folder / "model.safetensors.index.json");
  expect_refused("expected model.safetensors or model.safetensors.index.json, found neither");
  write("adapter_config.json", "{}");
  expect_refused("or model.safetensors.index.json, found adapter_config.json: this is an adapter");
  fs::remove(folder / "adapter_config.json");
  write("pytorch_model.bin", "\x80\x02");
  expect_refused("pickles can run code and are never read; convert");
  fs::remove(folder / "config.json");
  expect_refused("expected config.json, found none");
  write("model.gguf", "GGUF");
  expect_refused("to open model.gguf, name the file");
  write("adapter_config.json", "{}");
  expect_refused("this is an adapter; merge it into its base");
}

TEST_F(CheckpointTest, ConfigsThatAreNoObject) {
  write("config.json", "[]");
  expect_refused("expected a JSON object, found array");
  write("config.json", R"({"a": 1, "a": 2})");
  expect_refused("found it twice");
}

TEST_F(CheckpointTest, ATruncatedShardIsRefused) {
  fs::resize_file(folder / "2.safetensors", fs::file_size(folder / "2.safetensors") - 1);
  expect_refused("2.safetensors: expected a file of");
}

TEST_F(CheckpointTest, WeightMapsThatLeaveTheFolderAreRefused) {
  save_safetensors(tmp / "outside.safetensors", {{"a", a}});
  const std::string absolute = (tmp / "outside.safetensors").string();
  for (const std::string& name :
       {std::string("../outside.safetensors"), absolute, std::string(".."), std::string("."),
        std::string(), std::string("x/../../outside.safetensors"), std::string("..\\outside"),
        std::string("1.safetensors\0", 14)}) {
    write_index(name, "2.safetensors");
    expect_refused("expected the plain name of a file in the folder");
  }
}

// The owner of a folder may keep its files elsewhere; the user hears of it.
TEST_F(CheckpointTest, LinksOutOfTheFolderAreFollowedWithANote) {
  EXPECT_TRUE(Checkpoint::open(folder).notes().empty());
  fs::create_directory(tmp / "elsewhere");
  for (const char* name :
       {"1.safetensors", "2.safetensors", "config.json", "model.safetensors.index.json"}) {
    fs::rename(folder / name, tmp / "elsewhere" / name);
    fs::create_symlink(tmp / "elsewhere" / name, folder / name);
  }
  fs::create_symlink("/nowhere/at/all", folder / "dangling");
  const Checkpoint checkpoint = Checkpoint::open(folder);
  EXPECT_TRUE(torch::equal(checkpoint.load("a"), a));
  EXPECT_TRUE(torch::equal(checkpoint.load("b"), b));
  ASSERT_EQ(checkpoint.notes().size(), 1U);
  EXPECT_NE(checkpoint.notes().front().find(
                "1.safetensors, 2.safetensors, config.json and 1 more lead out of the folder"),
            std::string::npos)
      << checkpoint.notes().front();
}

TEST_F(CheckpointTest, LinksWithinTheFolderAreItsFiles) {
  fs::create_directory(folder / "weights");
  fs::rename(folder / "1.safetensors", folder / "weights/a");
  fs::create_symlink("weights/a", folder / "1.safetensors");
  fs::create_directory_symlink(folder, tmp / "link");
  for (const fs::path& path : {folder, tmp / "link"}) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    EXPECT_TRUE(torch::equal(checkpoint.load("a"), a));
    EXPECT_TRUE(checkpoint.notes().empty());
    EXPECT_FALSE(find_in_folder(path, "1.safetensors")->is_outside);
  }
  // A folder whose name begins alike is another one.
  fs::create_directory(tmp / "model2");
  fs::rename(folder / "2.safetensors", tmp / "model2/b");
  fs::create_symlink("../model2/b", folder / "2.safetensors");
  EXPECT_TRUE(find_in_folder(folder, "2.safetensors")->is_outside);
}

TEST_F(CheckpointTest, LinksToWhatIsNoModel) {
  fs::remove(folder / "1.safetensors");
  fs::create_symlink("/dev/zero", folder / "1.safetensors");
  expect_refused("expected a regular file");
  fs::remove(folder / "1.safetensors");
  fs::create_symlink("2.safetensors", folder / "1.safetensors");
  expect_refused("expected");  // a is not there
}

// snapshots/REV/file -> ../../blobs/HASH, as huggingface_hub lays its cache out.
TEST_F(CheckpointTest, TheCacheOfHuggingFaceIsInside) {
  const fs::path snapshot = tmp / "models--x/snapshots/0123";
  const fs::path blobs = tmp / "models--x/blobs";
  fs::create_directories(snapshot.parent_path());
  fs::create_directories(blobs);
  fs::rename(folder, snapshot);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(snapshot)) files.push_back(entry.path());
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    fs::rename(file, blobs / ("hash-" + name));
    fs::create_symlink("../../blobs/hash-" + name, file);
  }
  EXPECT_TRUE(torch::equal(Checkpoint::open(snapshot).load("a"), a));
  EXPECT_TRUE(Checkpoint::open(snapshot).notes().empty());
  EXPECT_FALSE(find_in_folder(snapshot, "config.json")->is_outside);

  // The blobs of another model are not.
  fs::create_directories(tmp / "models--y/blobs");
  fs::rename(blobs / "hash-config.json", tmp / "models--y/blobs/hash-config.json");
  fs::remove(snapshot / "config.json");
  fs::create_symlink("../../../models--y/blobs/hash-config.json", snapshot / "config.json");
  EXPECT_TRUE(find_in_folder(snapshot, "config.json")->is_outside);
  EXPECT_EQ(Checkpoint::open(snapshot).notes().size(), 1U);
}

TEST_F(CheckpointTest, AnIndexThatNamesAMissingShardIsRefused) {
  fs::remove(folder / "2.safetensors");
  expect_refused("b: expected its shard 2.safetensors, found no such file");
}

TEST_F(CheckpointTest, AnIndexThatNamesAMissingTensorIsRefused) {
  save_safetensors(folder / "2.safetensors", {{"c", b}});
  expect_refused("2.safetensors: b: expected the tensor that the index places here");
  save_safetensors(folder / "2.safetensors", {});
  expect_refused("2.safetensors: b: expected the tensor that the index places here");
}

TEST_F(CheckpointTest, ATensorInAnotherShardThanTheIndexSaysIsRefused) {
  write_index("2.safetensors", "1.safetensors");
  expect_refused("expected the tensor that the index places here");
}

TEST_F(CheckpointTest, ATensorInTwoShardsIsRefused) {
  save_safetensors(folder / "2.safetensors", {{"a", a}, {"b", b}});
  expect_refused("a: expected a tensor in one shard, found it in another one too");
}

TEST_F(CheckpointTest, IndexesThatAreNone) {
  for (const char* text : {"{}", R"({"weight_map": []})", R"({"weight_map": {"a": 1}})", "[]"}) {
    write("model.safetensors.index.json", text);
    expect_refused("expected a");
  }
}

}  // namespace
}  // namespace schmidt::io
