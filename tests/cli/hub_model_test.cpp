#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

// A model that is named by its id on Hugging Face's hub, from a made-up cache.

namespace schmidt::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

class HubModel : public ::testing::Test {
 protected:
  HubModel() {
    const fs::path repository = tmp / "hub/models--org--tiny";
    const fs::path made = tmp / "made";
    write_model(make_tiny_model(), made);
    write_byte_tokenizer(made);
    snapshot = repository / "snapshots" / kCommit;
    fs::create_directories(snapshot);
    fs::create_directories(repository / "blobs");
    fs::create_directories(repository / "refs");
    write_file(repository / "refs/main", kCommit);
    for (const auto& entry : fs::directory_iterator(made)) {
      const std::string name = entry.path().filename().string();
      fs::rename(entry.path(), repository / "blobs" / ("hash-of-" + name));
      fs::create_symlink("../../blobs/hash-of-" + name, snapshot / name);
    }
    write_file(tmp / "text", std::string(3000, 'a'));
  }

  Ran run(const std::string& arguments, const std::string& input = "") {
    return run_in_shell(tmp,
                        fmt::format("cd {} && export HF_HUB_CACHE={}\n$S {}", tmp.path().string(),
                                    (tmp / "hub").string(), arguments),
                        input);
  }

  TemporaryFolder tmp;
  fs::path snapshot;
};

TEST_F(HubModel, IsReadByEveryVerb) {
  const std::vector<std::pair<std::string, std::string>> commands = {
      {"inspect org/tiny --json", ""},
      {fmt::format("inspect org/tiny@{}", kCommit), ""},
      {"tokenize org/tiny", "Hi"},
      {"detokenize org/tiny", "10 11"},
      {"compress org/tiny --bond 3 -q -o cut", ""},
      {"compress org/tiny --recipe cut -q -o again", ""},
      {"quantize org/tiny --bits 8 --group 0 -q -o int8", ""},
      {"plan org/tiny --keep 0.8 --tflops 1 -o plan.json", ""},
      {"profile org/tiny --text text --max-tokens 64 --context 32 --bonds 2 --blocks 0 -q -o "
       "p.json",
       ""},
      {"heal cut --teacher org/tiny --data text --tokens 256 --context 32 --batch 2 --held-out 0 "
       "-q "
       "-o healed",
       ""},
      {"eval org/tiny --reference org/tiny --text text --context 32 --max-tokens 64 -q", ""},
      {"export org/tiny --to gguf -q -o tiny.gguf", ""},
      {"generate org/tiny --draft org/tiny -p Hi -n 2 -q", ""},
      {"chat org/tiny -n 2 -q", "Hi"},
      {"bench org/tiny -p 4 -n 2 -r 1 -q", ""},
  };
  for (const auto& [command, input] : commands) {
    const Ran ran = run(command, input);
    EXPECT_EQ(ran.code, 0) << command << "\n" << ran.err;
  }
  // What is written says what it was made from, by the name that others know.
  EXPECT_NE(read_file(tmp / "cut/README.md").find("base_model: org/tiny\n"), std::string::npos);
  EXPECT_TRUE(fs::exists(tmp / "cut/tokenizer.json"));  // of the same cache, and no stranger's
  EXPECT_NE(read_file(tmp / "p.html").find("org/tiny"), std::string::npos);
}

TEST_F(HubModel, IsNotWrittenOver) {
  const Ran ran = run("compress org/tiny --bond 3 --force -o " + snapshot.string());
  EXPECT_EQ(ran.code, 2) << ran.err;
  EXPECT_TRUE(fs::exists(snapshot / "model.safetensors"));
}

TEST_F(HubModel, ThatIsAbsentNamesTheCommandThatDownloadsIt) {
  for (const char* verb : {"inspect", "tokenize", "generate -p x", "plan --keep 0.5 -o p.json",
                           "eval --text text", "compress --bond 3 -o out"}) {
    const Ran ran = run(std::string(verb) + " org/other");
    EXPECT_EQ(ran.code, 2) << verb;
    EXPECT_EQ(ran.out, "") << verb;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
    EXPECT_NE(ran.err.find("\"hf download org/other\" fetches it"), std::string::npos) << ran.err;
  }
}

TEST_F(HubModel, ThatIsHalfDownloadedIsSaidToBe) {
  fs::remove(snapshot / ".." / ".." / "blobs" / "hash-of-model.safetensors");
  const Ran ran = run("inspect org/tiny");
  EXPECT_EQ(ran.code, 3);
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  EXPECT_NE(ran.err.find("model.safetensors: expected a finished download, found none; \"hf "
                         "download org/tiny\" goes on with it"),
            std::string::npos)
      << ran.err;
}

}  // namespace
}  // namespace schmidt::test
