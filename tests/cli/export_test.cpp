#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/io/gguf.h"

#include "tests/cli/program.h"
#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

/// `schmidt export`. In commands @ stands for a temporary folder.
class ExportTest : public testing::Test {
 protected:
  ExportTest() {
    test::write_model(test::make_compressed_model().compressed, tmp / "c");
    test::write_byte_tokenizer(tmp / "c");
  }

  test::Ran run(const std::string& command) const { return test::run_in_shell(tmp, command); }

  void expect_refused(const std::string& command, int code, const std::string& part) const {
    const test::Ran ran = run(command);
    EXPECT_EQ(ran.code, code) << command << ": " << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
    EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << ran.err;
    EXPECT_NE(ran.err.find(part), std::string::npos) << command << ": " << ran.err;
  }

  test::TemporaryFolder tmp;
};

TEST_F(ExportTest, SaysWhatWasWritten) {
  const test::Ran text = run("$S export @c --to dense -o @d -q");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("written to " + (tmp / "d").string()), std::string::npos) << text.out;
  const test::Ran json = run("$S export @c --to transformers -o @t --json -q");
  EXPECT_EQ(json.code, 0) << json.err;
  const auto said = nlohmann::json::parse(json.out);
  EXPECT_EQ(said["files"], nlohmann::json::array({(tmp / "t/model.safetensors").string()}));
  EXPECT_EQ(said["bytes"], fs::file_size(tmp / "t/model.safetensors"));
  EXPECT_EQ(run("$S inspect @d && $S tokenize @d --text @c/config.json").code, 0);
}

// However the folder's name is written.
TEST_F(ExportTest, NamesTheModelAfterItsFolder) {
  ASSERT_EQ(run("$S export @c/ --to dense -o @d -q").code, 0);
  EXPECT_TRUE(test::read_file(tmp / "d/README.md").starts_with("---\nbase_model: c\n"));
  ASSERT_EQ(run("$S export @c/ --to gguf --type f32 -o @c.gguf -q").code, 0);
  EXPECT_EQ(io::GgufFile::open(tmp / "c.gguf").get_string("general.name"), "c");
}

TEST_F(ExportTest, RefusesInOneLine) {
  expect_refused("$S export @c --to dense -q -o @c", 2, "is the model");
  expect_refused("$S export @c --to dense -q -o @c --force", 2, "is the model");
  expect_refused("$S export @c --to onnx -q -o @d", 2, "onnx");
  expect_refused("$S export @c --to transformers --dtype bfloat16 -q -o @d", 2, "--dtype");
  expect_refused("$S export @none --to dense -q -o @d", 2, "none");
  EXPECT_FALSE(fs::exists(tmp / "d"));
  ASSERT_EQ(run("$S export @c --to dense -q -o @d").code, 0);
  expect_refused("$S export @c --to dense -q -o @d", 2, "exists");
  EXPECT_EQ(run("$S export @c --to transformers -q -o @d --force").code, 0);
  test::write_file(tmp / "d/notes.txt", "mine");
  expect_refused("$S export @c --to dense -q -o @d --force", 2, "notes.txt");
  EXPECT_EQ(test::read_file(tmp / "d/notes.txt"), "mine");
}

TEST_F(ExportTest, WritesAGgufFile) {
  ASSERT_EQ(run("$S export @c --to gguf -q -o @c.gguf").code, 0);
  EXPECT_EQ(run("$S inspect @c.gguf && $S tokenize @c.gguf --text @c/config.json").code, 0);
  expect_refused("$S export @c --to gguf -q -o @c.gguf", 2, "exists");
  EXPECT_EQ(run("$S export @c.gguf --to gguf --type F16 -q -o @d.gguf").code, 0);
  EXPECT_EQ(run("$S export @c --to gguf -q -o @d.gguf --force").code, 0);
  expect_refused("$S export @c.gguf --to gguf -q -o @c.gguf --force", 2, "is the model");
  expect_refused("$S export @c --to gguf --type q8_0 -q -o @e.gguf", 2, "nearest type that fits");
  expect_refused("$S export @c --to gguf --type q4_x -q -o @e.gguf", 2, "q4_x");
  expect_refused("$S export @c --to dense --type q8_0 -q -o @e", 2, "--type");
  expect_refused("$S export @c --to gguf --rotate -q -o @e.gguf", 2, "--rotate");
  expect_refused("$S export @c --to dense --rotate -q -o @e", 2, "export --to dense writes one");
  fs::remove(tmp / "c/tokenizer.json");
  expect_refused("$S export @c --to gguf -q -o @e.gguf", 3, "tokenizer");
  EXPECT_FALSE(fs::exists(tmp / "e.gguf"));
  test::write_file(tmp / "mine.gguf", "GGUF of another");
  expect_refused("$S export @c.gguf --to gguf -q -o @mine.gguf --force", 2,
                 "not written by schmidt");
}

// Of layers with a low rank beside a weight of full size.
TEST_F(ExportTest, WritesABaseAndItsAdapter) {
  const test::Ran gguf = run("$S export @c --to gguf -q --json -o @g");
  ASSERT_EQ(gguf.code, 0) << gguf.err;
  EXPECT_EQ(
      nlohmann::json::parse(gguf.out)["files"],
      nlohmann::json::array({(tmp / "g/base.gguf").string(), (tmp / "g/lowrank.gguf").string()}));
  EXPECT_EQ(run("$S inspect @g/base.gguf").code, 0);
  const test::Ran peft = run("$S export @c --to peft --dtype bfloat16 -q -o @p");
  ASSERT_EQ(peft.code, 0) << peft.err;
  EXPECT_TRUE(fs::exists(tmp / "p/adapter_config.json"));
  EXPECT_EQ(run("$S inspect @p/base").code, 0);
  expect_refused("$S export @c --to peft -q -o @p", 2, "exists");
  EXPECT_EQ(run("$S export @c --to peft -q -o @p --force").code, 0);
  expect_refused("$S export @c --to gguf -q -o @p --force", 2, "adapter_config.json");
  expect_refused("$S export @p/base --to peft -q -o @q", 2,
                 "low rank beside a weight of full size");
}

// llama.cpp has no windows in this architecture.
TEST_F(ExportTest, TellsOfWindows) {
  test::TinyModel mistral = test::make_tiny_model();
  mistral.config["model_type"] = "mistral";
  mistral.config["sliding_window"] = 16;
  test::write_model(mistral, tmp / "w");
  test::write_byte_tokenizer(tmp / "w");
  const test::Ran ran = run("$S export @w --to gguf -o @w.gguf");
  EXPECT_EQ(ran.code, 0);
  EXPECT_NE(ran.err.find("a window of 16"), std::string::npos) << ran.err;
}

// A quota of 8 KiB on the size of files stands for a full disk.
TEST_F(ExportTest, AFullDiskLeavesNothing) {
  for (const std::string command :
       {"$S export @c --to dense -q -o @d", "$S export @c --to transformers -q -o @d",
        "$S export @c --to gguf -q -o @d", "$S export @c --to gguf -q -o @d.gguf",
        "$S export @c --to peft -q -o @d"}) {
    expect_refused("trap '' XFSZ; ulimit -f 8; " + command, 2, "cannot write");
    for (const auto& entry : fs::directory_iterator(tmp.path())) {
      EXPECT_FALSE(entry.path().filename().string().starts_with("d")) << entry.path();
    }
    EXPECT_EQ(run(command).code, 0) << command;
    fs::remove_all(tmp / "d");
    fs::remove(tmp / "d.gguf");
  }
}

// What a killed run has left is no reason to refuse the next one.
TEST_F(ExportTest, GoesOnAfterAKill) {
  fs::create_directory(tmp / "d.partial");
  test::write_file(tmp / "d.partial/model.safetensors.tmp17", "half");
  EXPECT_EQ(run("$S export @c --to dense -q -o @d").code, 0);
  EXPECT_FALSE(fs::exists(tmp / "d.partial"));
  fs::create_directories(tmp / "e.partial/layers");
  test::write_file(tmp / "e.partial/layers/1", "of another run");
  expect_refused("$S export @c --to dense -q -o @e", 2, "layers");
}

}  // namespace
}  // namespace schmidt
