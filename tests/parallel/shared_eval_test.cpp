#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "tests/parallel/rank_process.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

class SharedEvalTest : public ::testing::Test {
 protected:
  SharedEvalTest() {
    test::TinyModel tiny = test::make_tiny_model();
    tiny.config["max_position_embeddings"] = 512;
    test::write_model(tiny, tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    std::string boolq, gsm8k;
    for (int i = 0; i < 400; ++i) {
      boolq += fmt::format(R"({{"question": "is {0}", "passage": "{0} it is.", "answer": {1}}})"
                           "\n",
                           i * i, i % 3 == 0);
    }
    for (int i = 0; i < 40; ++i) {
      gsm8k += fmt::format(R"({{"question": "What is {0}?", "answer": "#### {0}"}})"
                           "\n",
                           i);
    }
    for (const char* folder : {"boolq", "gsm8k"}) {
      std::filesystem::create_directories(tmp / fmt::format("data/{}", folder));
    }
    test::write_file(tmp / "data/boolq/dev.jsonl", boolq);
    test::write_file(tmp / "data/gsm8k/test.jsonl", gsm8k);
  }

  int evaluate(const std::string& launcher, const std::string& out) {
    const int status = std::system(
        fmt::format("OMP_NUM_THREADS=1 timeout 60 {} {} eval {} --tasks boolq,gsm8k --fewshot 0 "
                    "--data {} -o {} -q >{} 2>&1",
                    launcher, SCHMIDT_PROGRAM, (tmp / "m").string(), (tmp / "data").string(),
                    (tmp / out).string(), (tmp / "log").string())
            .c_str());
    return WEXITSTATUS(status);
  }

  nlohmann::json results(const std::string& out) {
    return nlohmann::json::parse(test::read_file(tmp / out)).at("results");
  }

  test::TemporaryFolder tmp;
};

#ifdef SCHMIDT_MPIRUN

TEST_F(SharedEvalTest, ThreeRanksGiveTheScoresOfOneAndPrintOnce) {
  ASSERT_EQ(evaluate("", "one.json"), 0) << test::read_file(tmp / "log");
  const std::string printed = test::read_file(tmp / "log");
  ASSERT_EQ(evaluate(SCHMIDT_MPIRUN " -n 3", "three.json"), 0) << test::read_file(tmp / "log");
  EXPECT_EQ(results("one.json"), results("three.json"));
  EXPECT_EQ(test::read_file(tmp / "log"), printed);
  EXPECT_FALSE(std::filesystem::exists(tmp / "three.json.partial"));
}

TEST_F(SharedEvalTest, OtherRanksGoOnWhereAKilledOneStopped) {
  ASSERT_EQ(evaluate("", "one.json"), 0) << test::read_file(tmp / "log");
  const auto has_records = [&] {
    std::error_code none;
    const auto bytes = std::filesystem::file_size(tmp / "cut.json.partial" / "records.1", none);
    return !none && bytes > 0;
  };
  const auto code = test::exit_code_after(
      SIGKILL, 1, (tmp / "cut.json").string(),
      [&] { return evaluate(SCHMIDT_MPIRUN " -n 3", "cut.json"); }, has_records);
  if (!code) GTEST_SKIP() << "the run ended before it was killed";
  EXPECT_NE(*code, 0);
  EXPECT_FALSE(std::filesystem::exists(tmp / "cut.json"));
  ASSERT_EQ(evaluate(SCHMIDT_MPIRUN " -n 2", "cut.json"), 0) << test::read_file(tmp / "log");
  EXPECT_EQ(results("one.json"), results("cut.json"));
}

#endif

}  // namespace
}  // namespace schmidt
