#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

class EvalTasksTest : public ::testing::Test {
 protected:
  EvalTasksTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    test::write_file(tmp / "text", std::string(200, 'x'));
    for (const char* subject : {"anatomy", "virology"}) {
      write(fmt::format("data/mmlu/test/{}_test.csv", subject),
            "One?,1,2,3,4,A\nTwo?,1,2,3,4,B\nThree?,1,2,3,4,D\n");
      write(fmt::format("data/mmlu/dev/{}_dev.csv", subject), "Shown?,1,2,3,4,C\n");
    }
    std::string lines;
    for (int i = 0; i < 12; ++i) {
      lines += fmt::format(R"({{"question": "is {0}", "passage": "{0} it is.", "answer": {1}}})"
                           "\n",
                           i, i % 2 == 0);
    }
    write("data/boolq/dev.jsonl", lines);
  }

  void write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((tmp / name).parent_path());
    test::write_file(tmp / name, bytes);
  }

  test::Ran run(const std::string& arguments) {
    return test::run_in_shell(tmp, fmt::format("$S {} -q", arguments));
  }

  void expect_error(const std::string& arguments, int code, const std::string& part) {
    const auto [got, out, err] = run(arguments);
    EXPECT_EQ(got, code) << arguments;
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
    EXPECT_NE(err.find(part), std::string::npos) << err;
    EXPECT_TRUE(out.empty()) << out;
  }

  test::TemporaryFolder tmp;
};

TEST_F(EvalTasksTest, PrintsTheHarnessShape) {
  const std::string asked = "eval @m --tasks mmlu,boolq --data @data --fewshot 0 ";
  const test::Ran printed = run(asked + "--limit 2 --reference @m --json");
  ASSERT_EQ(printed.code, 0) << printed.err;
  const auto json = nlohmann::json::parse(printed.out);
  EXPECT_EQ(json.at("results").at("mmlu").at("sample_len"), 4);
  EXPECT_EQ(json.at("results").at("boolq").at("sample_len"), 2);
  EXPECT_EQ(json.at("n-samples").at("boolq").at("original"), 12);
  EXPECT_TRUE(json.at("results").at("mmlu_anatomy").contains("acc_stderr,none"));
  EXPECT_EQ(json.at("results").at("boolq"), json.at("reference").at("boolq"));
  EXPECT_FALSE(json.contains("samples"));
  const test::Ran table = run(asked + "--reference @m -o @o.json");
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_NE(table.out.find("recovery %"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find(" - stem"), std::string::npos) << table.out;
  const auto file = nlohmann::json::parse(test::read_file(tmp / "o.json"));
  EXPECT_EQ(file.at("samples").at("mmlu_virology").size(), 3u);
  ASSERT_EQ(run("eval @m --tasks mmlu --data @data --fewshot 1").code, 0);
}

TEST_F(EvalTasksTest, MistakesAreToldInOneLine) {
  expect_error("eval @m", 2, "either --text or --tasks");
  expect_error("eval @m --text @text --tasks boolq --data @data", 2, "got both");
  expect_error("eval @m --tasks boolq", 2, "--data");
  expect_error("eval @m --tasks boolq,taste --data @data", 2, "mmlu, hellaswag, boolq");
  expect_error("eval @m --tasks boolq --data @data --limit 0", 2, "--limit");
  expect_error("eval @m --tasks boolq --data @data --fewshot -1", 2, "--fewshot");
  expect_error("eval @m --tasks boolq --data @data --fewshot 2", 2, "without worked examples");
  expect_error("eval @m --tasks mmlu --data @data --fewshot 2", 2, "expected 0 to 1");
  expect_error("eval @m --tasks piqa --data @data", 2, "piqa");
  expect_error("eval @m --tasks boolq --data @nowhere", 2, "nowhere");
  expect_error("eval @m --tasks boolq --data @data --context 64", 2, "--context");
  expect_error("eval @m --tasks boolq --data @data --force", 2, "--force");
  expect_error("eval @m --text @text --limit 3", 2, "--limit");
  expect_error("eval @m --tasks boolq --data @data -o @m/config.json", 2, "exists");
  write("data/gsm8k/test.jsonl", R"({"question": "a", "answer": "#### 1"})");
  expect_error("eval @m --tasks gsm8k --data @data --fewshot 0", 2, "more than 256 tokens");
  write("hub/boolq/validation-00000-of-00001.parquet", "PAR1");
  write("hub/mmlu/all/test-00000-of-00001.parquet", "PAR1");
  expect_error("eval @m --tasks boolq --data @hub", 2, "python/parquet_to_jsonl.py");
  expect_error("eval @m --tasks mmlu --data @hub", 2, "python/parquet_to_jsonl.py");
  write("data/boolq/dev.jsonl", "{\"question\": \"is\"}");
  expect_error("eval @m --tasks boolq --data @data", 3, "line 1");
}

}  // namespace
}  // namespace schmidt
