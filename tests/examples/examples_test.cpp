#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/io/checkpoint.h"
#include "schmidt/package/summary.h"
#include "schmidt/version.h"

#include "tests/support/shell.h"
#include "tests/support/tiny_model.h"

// The examples, built and run against what cmake --install has put into an empty folder.

namespace schmidt::test {
namespace {

namespace fs = std::filesystem;

/// Installs and builds once for all tests; each runs its examples.
class Examples : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    place = new TemporaryFolder;
    const std::string prefix = (*place / "prefix").string(), built = (*place / "built").string();
    installed = run_in_bash(
        *place, fmt::format("{} --install {} --prefix {}", CMAKE_PROGRAM, BUILD_FOLDER, prefix));
    configured = run_in_bash(
        *place, fmt::format("{0} -G Ninja -S {1} -B {2} -DCMAKE_PREFIX_PATH={3} "
                            "-DCMAKE_CXX_FLAGS_RELEASE=-O0",
                            CMAKE_PROGRAM, (source_dir() / "examples").string(), built, prefix));
    compiled = run_in_bash(*place, fmt::format("{} --build {}", CMAKE_PROGRAM, built));
    write_model(make_tiny_model(), *place / "m");
    write_byte_tokenizer(*place / "m");
    std::string text;
    for (int i = 0; i < 200; ++i) text += fmt::format("Once there were {} of them. ", i);
    write_file(*place / "text", text);
  }
  static void TearDownTestSuite() {
    delete place;
    place = nullptr;
  }

  void SetUp() override {
    ASSERT_EQ(installed.code, 0) << installed.out << installed.err;
    ASSERT_EQ(configured.code, 0) << configured.out << configured.err;
    ASSERT_EQ(compiled.code, 0) << compiled.out << compiled.err;
  }

  /// Runs an example in the folder of the model "m" and the file "text".
  Ran run(const std::string& example) {
    const Ran ran =
        run_in_bash(*place, fmt::format("cd {} && built/{}", place->path().string(), example));
    EXPECT_EQ(ran.code, 0) << example << "\n" << ran.out << ran.err;
    return ran;
  }

  static TemporaryFolder* place;
  static Ran installed, configured, compiled;
};

TemporaryFolder* Examples::place = nullptr;
Ran Examples::installed, Examples::configured, Examples::compiled;

TEST_F(Examples, AnMpoByHandHasTheBondThatItWasMadeWith) {
  const Ran ran = run("mpo_by_hand");
  EXPECT_NE(ran.out.find("bond found: 3,"), std::string::npos) << ran.out;
}

TEST_F(Examples, AMethodOfOnesOwnMakesACheckpoint) {
  run("own_method m cut");
  const auto made = io::Checkpoint::open(*place / "cut");
  EXPECT_LE(package::summarize(made).keep(), 0.8);
  EXPECT_EQ(made.config()["compression_config"]["made_by"][0]["method"], "randomized-svd");
}

TEST_F(Examples, AMetricOfOnesOwnMakesAProfile) {
  const Ran ran = run("own_metric m text p.json");
  EXPECT_EQ(ran.lines().size(), 14U) << ran.out;  // two blocks of seven layers
  EXPECT_NE(read_file(*place / "p.html").find("share of tokens with another likeliest one"),
            std::string::npos);
}

TEST_F(Examples, TheWholeWayEndsWithAnAnswer) {
  const Ran ran = run("whole_way m text way");
  EXPECT_NE(ran.out.find("\nOnce"), std::string::npos) << ran.out;
  EXPECT_LE(package::summarize(io::Checkpoint::open(*place / "way/healed")).keep(), 0.8);
}

TEST_F(Examples, ACallbackSeesTheText) {
  const Ran ran = run("generate m Once");
  EXPECT_NE(ran.out.find(" tokens\n"), std::string::npos) << ran.out;
}

TEST_F(Examples, OtherVersionsAreRefused) {
  for (const auto& [version, code] :
       {std::pair("0.1", 0), std::pair("0.0", 1), std::pair("9", 1)}) {
    fs::create_directories(*place / "asks");
    write_file(*place / "asks/CMakeLists.txt",
               fmt::format("cmake_minimum_required(VERSION 3.25)\nproject(asks LANGUAGES CXX)\n"
                           "find_package(schmidt {} REQUIRED)\n",
                           version));
    const Ran ran = run_in_bash(
        *place, fmt::format("{0} -S {1}/asks -B {1}/asked-{2} -DCMAKE_PREFIX_PATH={1}/prefix",
                            CMAKE_PROGRAM, place->path().string(), version));
    EXPECT_EQ(ran.code, code) << version << ran.err;
  }
  EXPECT_EQ(
      fmt::format("{}.{}.{}", SCHMIDT_VERSION_MAJOR, SCHMIDT_VERSION_MINOR, SCHMIDT_VERSION_PATCH),
      PROJECT_VERSION);
}

TEST_F(Examples, TheProgramComesWithItsManualAndCompletion) {
  const fs::path prefix = *place / "prefix";
  const Ran version = run_in_bash(*place, (prefix / "bin/schmidt").string() + " --version");
  EXPECT_EQ(version.out, "schmidt " PROJECT_VERSION "\n");
  EXPECT_TRUE(read_file(prefix / "share/man/man1/schmidt.1").starts_with(".TH SCHMIDT"));
  EXPECT_NE(read_file(prefix / "share/bash-completion/completions/schmidt").find("complete -F"),
            std::string::npos);
  EXPECT_TRUE(
      read_file(prefix / "share/zsh/site-functions/_schmidt").starts_with("#compdef schmidt"));
  EXPECT_TRUE(fs::exists(prefix / "share/fish/vendor_completions.d/schmidt.fish"));
  EXPECT_TRUE(fs::exists(prefix / "include/schmidt/tn/mpo.h"));
  EXPECT_FALSE(fs::exists(prefix / "include/schmidt/cli"));
}

}  // namespace
}  // namespace schmidt::test
