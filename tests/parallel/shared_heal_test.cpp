#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/heal/run_log.h"

#include "tests/parallel/rank_process.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

#ifdef SCHMIDT_MPIRUN

/// `schmidt heal` by mpirun: a tiny model and a teacher.
class SharedHealTest : public ::testing::Test {
 protected:
  SharedHealTest() {
    test::write_model(test::make_tiny_model(4, 1), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    test::write_model(test::make_tiny_model(4, 2), tmp / "teacher");
    std::ofstream text(tmp / "text.jsonl");
    for (int i = 0; i < 60; ++i) {
      text << fmt::format("{{\"text\": \"line {} of a text, {}\"}}\n", i, i * i);
    }
  }

  std::string command(const std::string& launcher, const std::string& out, const std::string& more,
                      int64_t steps) const {
    return fmt::format(
        "OMP_NUM_THREADS=1 timeout 100 {} {} heal {} --teacher {} --data {} -o {} --tokens {} "
        "--context 64 --batch 4 --micro-batch 1 --held-out 2 --evaluate-every 4 --learning-rate "
        "1e-3 --dtype float32 --train dense,norms,embedding -q {} >{} 2>&1",
        launcher, SCHMIDT_PROGRAM, (tmp / "m").string(), (tmp / "teacher").string(),
        (tmp / "text.jsonl").string(), (tmp / out).string(), 4 * 64 * steps, more,
        (tmp / "log").string());
  }

  int heal(const std::string& launcher, const std::string& out, const std::string& more = "",
           int64_t steps = 8) {
    return WEXITSTATUS(std::system(command(launcher, out, more, steps).c_str()));
  }

  /// As `heal`, by a stage "healed" of a recipe.
  int heal_by_recipe(const std::string& launcher, const std::string& out) const {
    test::write_file(tmp / "recipe.yaml",
                     fmt::format("stages:\n  - name: healed\n    launcher: {}\n    heal: {{model: "
                                 "{}, teacher: {}, data: {}, tokens: 2048, context: 64, batch: 4, "
                                 "micro-batch: 1, held-out: 2, evaluate-every: 4, learning-rate: "
                                 "1e-3, dtype: float32, train: [dense, norms, embedding]}}\n",
                                 launcher, (tmp / "m").string(), (tmp / "teacher").string(),
                                 (tmp / "text.jsonl").string()));
    return WEXITSTATUS(std::system(
        fmt::format("OMP_NUM_THREADS=1 timeout 100 {} run {} -o {} -q >{} 2>&1", SCHMIDT_PROGRAM,
                    (tmp / "recipe.yaml").string(), (tmp / out).string(), (tmp / "log").string())
            .c_str()));
  }

  bool has_saved_state(const std::string& out) const {
    const fs::path folder = tmp / (out + ".partial") / "run";
    if (!fs::exists(folder)) return false;
    return std::ranges::any_of(fs::directory_iterator(folder), [](const auto& entry) {
      return entry.path().filename().string().starts_with("state-");
    });
  }

  std::string printed() const { return test::read_file(tmp / "log"); }

  std::vector<double> losses(const std::string& out) const {
    std::vector<double> found;
    for (const auto& line : heal::read_run_log(tmp / out / "heal.jsonl")) {
      if (line.contains("loss")) found.push_back(line["loss"]);
    }
    return found;
  }

  void expect_curve_of(const std::string& one, const std::string& other) const {
    const auto a = losses(one), b = losses(other);
    ASSERT_EQ(a.size(), 8u);
    ASSERT_EQ(b.size(), 8u);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4 * a[i]) << i;
  }

  /// A run of three ranks, one of which gets a signal once a state is saved. -> its exit code.
  int signal_to_rank(int rank, int signal, const std::string& more) {
    EXPECT_EQ(heal(SCHMIDT_MPIRUN " -n 3", "whole", "", kLongRun), 0) << printed();
    const std::optional<int> code = test::exit_code_after(
        signal, rank, (tmp / "cut").string(),
        [&] { return heal(SCHMIDT_MPIRUN " -n 3", "cut", more, kLongRun); },
        [&] { return has_saved_state("cut"); });
    EXPECT_TRUE(code) << printed();
    return code.value_or(-1);
  }

  /// After `signal_to_rank`: nothing is written, and the run resumed is the uninterrupted one.
  void expect_to_go_on() {
    EXPECT_FALSE(fs::exists(tmp / "cut"));
    ASSERT_EQ(heal(SCHMIDT_MPIRUN " -n 3", "cut", "--resume", kLongRun), 0) << printed();
    EXPECT_EQ(test::read_file(tmp / "whole" / "model.safetensors"),
              test::read_file(tmp / "cut" / "model.safetensors"));
  }

  static constexpr int64_t kLongRun = 60;  // steps
  test::TemporaryFolder tmp;
};

TEST_F(SharedHealTest, TwoAndFourRanksAreOnTheCurveOfOne) {
  ASSERT_EQ(heal("", "one"), 0) << printed();
  ASSERT_EQ(heal(SCHMIDT_MPIRUN " -n 2", "two"), 0) << printed();
  ASSERT_EQ(heal(SCHMIDT_MPIRUN " -n 4", "four"), 0) << printed();
  ASSERT_EQ(heal(SCHMIDT_MPIRUN " -n 4", "grid", "--stages 2"), 0) << printed();
  ASSERT_EQ(heal_by_recipe(SCHMIDT_MPIRUN " -n 2", "run"), 0) << printed();
  for (const char* out : {"two", "four", "grid", "run/healed"}) expect_curve_of("one", out);
  EXPECT_FALSE(fs::exists(tmp / "four.partial"));
}

TEST_F(SharedHealTest, AStoppedRankEndsTheOthersAndTheRunGoesOnFromAWholeState) {
  const int code = signal_to_rank(1, SIGSTOP, "--deadline 3 --save-minutes 0");
  EXPECT_EQ(code, 2) << printed();
  EXPECT_NE(printed().find("error: rank 1 did not answer for 3 s ("), std::string::npos)
      << printed();
  expect_to_go_on();
}

TEST_F(SharedHealTest, AKilledRankEndsTheOthersAndTheRunGoesOnFromAWholeState) {
  EXPECT_EQ(signal_to_rank(1, SIGKILL, "--save-minutes 0"), 128 + SIGKILL) << printed();
  expect_to_go_on();
}

TEST_F(SharedHealTest, AskedToEndOneRankAllSaveAndEnd) {
  const int code = signal_to_rank(2, SIGTERM, "--save-minutes 0");
  EXPECT_EQ(code, 128 + SIGTERM) << printed();
  EXPECT_NE(printed().find("the state is saved in " + (tmp / "cut.partial").string()),
            std::string::npos)
      << printed();
  expect_to_go_on();
}

TEST_F(SharedHealTest, AMistakeEndsEveryRank) {
  EXPECT_EQ(heal(SCHMIDT_MPIRUN " -n 3", "bad", "--stages 2"), 2) << printed();
  EXPECT_NE(printed().find("expected stages that divide 3 ranks, got 2"), std::string::npos);
}

TEST_F(SharedHealTest, TwoHostsAreOnTheCurveOfOne) {
  ASSERT_EQ(heal("", "one"), 0) << printed();
  const int code = heal(SCHMIDT_TWO_HOSTS " 1", "two");
  if (code == 77) GTEST_SKIP() << printed();
  ASSERT_EQ(code, 0) << printed();
  expect_curve_of("one", "two");
  ASSERT_EQ(heal(SCHMIDT_TWO_HOSTS " 1", "stages", "--stages 2"), 0) << printed();
  expect_curve_of("one", "stages");
}

#endif

}  // namespace
}  // namespace schmidt
