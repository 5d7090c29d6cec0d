#include "schmidt/io/model_path.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/gguf.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using test::expect_error;

constexpr const char* kPointer =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 12345\n";

TEST(ModelPath, IsGgufByItsFirstBytes) {
  const test::TemporaryFolder tmp;
  for (const char* name : {"sha256-0123", "model.bin", "model.GGUF", "model.gguf"}) {
    test::write_file(tmp / name, test::gguf({}, {}, 0));
    EXPECT_EQ(kind_of_model_path(tmp / name), ModelPath::kGguf) << name;
    EXPECT_EQ(GgufFile::open(tmp / name).tensors().size(), 0U) << name;
  }
  fs::create_directory(tmp / "folder.gguf");
  EXPECT_EQ(kind_of_model_path(tmp / "folder.gguf"), ModelPath::kFolder);
}

TEST(ModelPath, RefusesWhatIsNoModel) {
  const test::TemporaryFolder tmp;
  expect_error<c10::ValueError>([&] { kind_of_model_path(tmp / "none"); }, "does not exist");
  test::write_file(tmp / "text", "GGML");
  expect_error<c10::ValueError>([&] { kind_of_model_path(tmp / "text"); },
                                "expected a model folder or a GGUF file");
  test::write_file(tmp / "bad.gguf", "PK");
  expect_error<FormatError>([&] { Checkpoint::open(tmp / "bad.gguf"); }, "bad.gguf: header");
}

TEST(LfsPointer, IsCalledSoInEveryFileOfAModel) {
  const test::TemporaryFolder tmp;
  const std::string reason = "found a Git LFS pointer to it; \"git lfs pull\" fetches the file";
  const auto expect_called_so = [&](const fs::path& file, const auto& call) {
    expect_error<FormatError>(call, file.string() + ": expected the file itself, " + reason);
  };
  for (const char* name : {"model.gguf", "blob"}) {
    test::write_file(tmp / name, kPointer);
    expect_called_so(tmp / name, [&] { Checkpoint::open(tmp / name); });
    expect_called_so(tmp / name, [&] { GgufFile::open(tmp / name); });
  }
  const fs::path folder = tmp / "m";
  fs::create_directory(folder);
  const auto open = [&] { Checkpoint::open(folder); };
  test::write_file(folder / "config.json", kPointer);
  expect_called_so(folder / "config.json", open);
  test::write_file(folder / "config.json", "{}");
  test::write_file(folder / "model.safetensors.index.json", kPointer);
  expect_called_so(folder / "model.safetensors.index.json", open);
  test::write_file(folder / "model.safetensors.index.json",
                   R"({"weight_map": {"a": "1.safetensors"}})");
  test::write_file(folder / "1.safetensors", kPointer);
  expect_called_so(folder / "1.safetensors", open);
  test::write_file(folder / "model.safetensors", kPointer);
  expect_called_so(folder / "model.safetensors", open);
}

}  // namespace
}  // namespace schmidt::io
