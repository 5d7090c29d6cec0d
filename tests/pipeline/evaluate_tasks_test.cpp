#include "schmidt/pipeline/evaluate_tasks.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/io/record_log.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

class EvaluateTasks : public ::testing::Test {
 protected:
  EvaluateTasks() {
    at::set_num_threads(1);
    std::string hellaswag, gsm8k;
    for (int i = 0; i < 150; ++i) {
      hellaswag += fmt::format(R"({{"query": "He {0} goes{1}", "choices": ["up {0}.", "down."], )"
                               R"("gold": {2}}})"
                               "\n",
                               i * i, std::string(static_cast<size_t>(i % 50), 'x'), i % 2);
    }
    for (int i = 0; i < 6; ++i) {
      gsm8k += fmt::format(R"({{"question": "What is {0}?", "answer": "#### {0}"}})"
                           "\n",
                           i);
    }
    write("data/hellaswag/validation.jsonl", hellaswag);
    write("data/gsm8k/test.jsonl", gsm8k);
    recipe = {{"hellaswag", "gsm8k"}, tmp / "data", {.fewshot = 0}};
  }

  io::Checkpoint made(uint64_t seed) const {
    test::TinyModel tiny = test::make_tiny_model(2, seed);
    tiny.config["max_position_embeddings"] = 512;
    const fs::path folder = tmp / fmt::format("m{}", seed);
    test::write_model(tiny, folder);
    test::write_byte_tokenizer(folder);
    return io::Checkpoint::open(folder);
  }

  void write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((tmp / name).parent_path());
    test::write_file(tmp / name, bytes);
  }

  std::vector<eval::TaskResult> evaluate(const TaskRun& run, const Reporter& reporter = {}) const {
    return evaluate_tasks(model, &reference, recipe, run, reporter);
  }

  std::string refusal(const TaskRun& run) const {
    try {
      evaluate(run);
    } catch (const std::exception& e) {
      return e.what();
    }
    return "nothing was thrown";
  }

  nlohmann::json file(const std::string& name) const { return io::read_json(tmp / name); }

  test::TemporaryFolder tmp;
  TaskRecipe recipe;
  io::Checkpoint model = made(1);
  io::Checkpoint reference = made(2);
};

TEST_F(EvaluateTasks, WritesScoresAndEveryResponse) {
  const auto results = evaluate({.out = tmp / "out.json"});
  ASSERT_EQ(results.size(), 2u);
  const auto written = file("out.json");
  EXPECT_EQ(written.at("results").at("hellaswag").at("sample_len"), 150);
  EXPECT_EQ(written.at("samples").at("hellaswag").size(), 150u);
  EXPECT_EQ(written.at("samples").at("gsm8k").size(), 6u);
  EXPECT_TRUE(written.at("recovery").contains("hellaswag"));
  double sum = 0;
  for (const auto& sample : written.at("samples").at("hellaswag")) {
    sum += sample.at("acc_norm,none").get<double>();
  }
  EXPECT_NEAR(written.at("results").at("hellaswag").at("acc_norm,none").get<double>(), sum / 150,
              1e-12);
  EXPECT_FALSE(fs::exists(tmp / "out.json.partial"));
  EXPECT_NE(refusal({.out = tmp / "out.json"}).find("exists"), std::string::npos);
  evaluate({.out = tmp / "out.json", .force = true});
  EXPECT_NE(refusal({.out = tmp / "out.txt"}).find(".json"), std::string::npos);
}

TEST_F(EvaluateTasks, AKilledRunGoesOnAndAsksNothingTwice) {
  evaluate({.out = tmp / "whole.json"});
  int killed = 0;
  for (const int calls : {1, 4, 12}) {
    const std::string out = fmt::format("cut{}.json", calls);
    const auto end = test::run_in_child(
        [&] { evaluate({.out = tmp / out}, {.progress = test::kill_at(calls)}); });
    if (end != test::ChildEnd::kKilled) break;
    ++killed;
    const fs::path partial = tmp / (out + ".partial");
    const int64_t kept = std::ssize(io::RecordLog::read(partial));
    EXPECT_GT(kept, 0);
    int64_t asked = 0;
    evaluate({.out = tmp / out}, {.progress = [&](const Progress& p) {
               if (p.done == p.total) asked += p.total;
             }});
    EXPECT_EQ(asked, 2 * 156 - kept);
    const auto whole = file("whole.json"), cut = file(out);
    for (const char* part : {"results", "reference", "recovery"}) {
      EXPECT_EQ(whole.at(part).at("gsm8k"), cut.at(part).at("gsm8k"));
      EXPECT_EQ(whole.at(part).at("hellaswag"), cut.at(part).at("hellaswag"));
    }
    EXPECT_FALSE(fs::exists(partial));
  }
  EXPECT_GT(killed, 1);
}

TEST_F(EvaluateTasks, UnfinishedWorkOfAnotherKindIsRefused) {
  ASSERT_EQ(test::run_in_child(
                [&] { evaluate({.out = tmp / "a.json"}, {.progress = test::kill_at(2)}); }),
            test::ChildEnd::kKilled);
  recipe.questions.limit = 20;
  EXPECT_NE(refusal({.out = tmp / "a.json"}).find("unfinished evaluation"), std::string::npos);
  evaluate({.out = tmp / "a.json", .force = true});
  EXPECT_EQ(file("a.json").at("results").at("hellaswag").at("sample_len"), 20);
}

TEST_F(EvaluateTasks, MistakesAreFoundBeforeAnythingIsWritten) {
  recipe.tasks = {"hellaswag", "hellaswag"};
  EXPECT_NE(refusal({.out = tmp / "a.json"}).find("several times"), std::string::npos);
  recipe.tasks = {"hellaswag", "taste"};
  EXPECT_NE(refusal({.out = tmp / "a.json"}).find("lambada_openai"), std::string::npos);
  recipe.tasks = {"piqa"};
  EXPECT_THROW(evaluate({.out = tmp / "a.json"}), SystemError);
  write("data/gsm8k/test.jsonl", "{\"question\": 3}");
  recipe.tasks = {"hellaswag", "gsm8k"};
  EXPECT_THROW(evaluate({.out = tmp / "a.json"}), FormatError);
  EXPECT_FALSE(fs::exists(tmp / "a.json"));
  EXPECT_FALSE(fs::exists(tmp / "a.json.partial"));
}

}  // namespace
}  // namespace schmidt::pipeline
