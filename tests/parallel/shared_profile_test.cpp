#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/parallel/rank_process.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

class SharedProfileTest : public ::testing::Test {
 protected:
  SharedProfileTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("line {} of a text\n", i * i);
    test::write_file(tmp / "text", text);
  }

  int profile(const std::string& launcher, const std::string& out, const std::string& more = "") {
    const int status = std::system(
        fmt::format("OMP_NUM_THREADS=1 timeout 60 {} {} profile {} --text {} -o {} --context 64 "
                    "--max-tokens 256 -q {} >{} 2>&1",
                    launcher, SCHMIDT_PROGRAM, (tmp / "m").string(), (tmp / "text").string(),
                    (tmp / out).string(), more, (tmp / "log").string())
            .c_str());
    return WEXITSTATUS(status);
  }

  test::TemporaryFolder tmp;
};

#ifdef SCHMIDT_MPIRUN

TEST_F(SharedProfileTest, ThreeRanksGiveTheBytesOfOne) {
  for (const char* method : {"whitened", "fisher"}) {
    const std::string options = fmt::format("--keep 0.2,0.6 --force --method {}", method);
    ASSERT_EQ(profile("", "one.json", options), 0) << test::read_file(tmp / "log");
    ASSERT_EQ(profile(SCHMIDT_MPIRUN " -n 3", "three.json", options), 0)
        << test::read_file(tmp / "log");
    EXPECT_EQ(test::read_file(tmp / "one.json"), test::read_file(tmp / "three.json"));
    EXPECT_EQ(test::read_file(tmp / "one.svg"), test::read_file(tmp / "three.svg"));
    EXPECT_FALSE(std::filesystem::exists(tmp / "three.json.partial"));
    EXPECT_FALSE(std::filesystem::exists(tmp / "three.json.statistics"));
  }
}

TEST_F(SharedProfileTest, AKilledRankEndsAllAndOthersGoOnToTheSameBytes) {
  std::string many = "--keep 0.1";
  for (int i = 11; i < 90; ++i) many += fmt::format(",0.{}", i);
  ASSERT_EQ(profile("", "one.json", many), 0) << test::read_file(tmp / "log");
  const auto has_points = [&] {
    std::error_code none;
    const auto bytes = std::filesystem::file_size(tmp / "cut.json.partial" / "records.1", none);
    return !none && bytes > 0;
  };
  const auto code = test::exit_code_after(
      SIGKILL, 1, (tmp / "cut.json").string(),
      [&] { return profile(SCHMIDT_MPIRUN " -n 3", "cut.json", many); }, has_points);
  ASSERT_TRUE(code) << test::read_file(tmp / "log");
  EXPECT_NE(*code, 0);
  EXPECT_FALSE(std::filesystem::exists(tmp / "cut.json"));
  ASSERT_EQ(profile(SCHMIDT_MPIRUN " -n 2", "cut.json", many), 0) << test::read_file(tmp / "log");
  EXPECT_EQ(test::read_file(tmp / "one.json"), test::read_file(tmp / "cut.json"));
}

TEST_F(SharedProfileTest, AMistakeEndsEveryRank) {
  const int code = profile(SCHMIDT_MPIRUN " -n 3", "bad.json", "--layers no_such_layer");
  EXPECT_EQ(code, 2) << test::read_file(tmp / "log");
  EXPECT_FALSE(std::filesystem::exists(tmp / "bad.json"));
}

#endif

}  // namespace
}  // namespace schmidt
