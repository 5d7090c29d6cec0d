#include "schmidt/pipeline/read_run.h"

#include <cmath>
#include <filesystem>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/pipeline/report_run.h"
#include "schmidt/pipeline/run_record.h"

#include "tests/support/support.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using report::StageState;

/// A run of the folder `out`, its results written by hand.
class ReadRunTest : public ::testing::Test {
 protected:
  ReadRunTest() {
    fs::create_directory(tmp / "out");
    record.models = {{"/models/m.gguf", "m.gguf", 1000, 4000}};
    add_model("int8", "quantize", {"model", "", "/models/m.gguf"}, 1000, 1100);
    add_model("healed", "heal", {"model", "int8", ""}, 600, 600);
    record.stages["int8"].command = {"quantize",    "/models/m.gguf", "--bits=8",
                                     "--threads=1", "--out=out/int8", "--json"};
  }

  StageRecord& add(const std::string& name, const std::string& verb,
                   std::vector<RecordedInput> inputs) {
    record.recipe.push_back({name, verb, std::move(inputs)});
    StageRecord& stage = record.stages[name];
    stage.verb = verb;
    stage.finished = true;
    stage.seconds = 1.5;
    stage.ended = "2026-01-31T23:59:59Z";
    stage.program = "schmidt 0.1.0";
    stage.machine = {"a processor", 2, 8000, {"portable"}};
    return stage;
  }

  void add_model(const std::string& name, const std::string& verb, const RecordedInput& from,
                 int64_t parameters, int64_t bytes) {
    add(name, verb, {from}).result = {
        {"parameters", parameters}, {"dense_parameters", 1000}, {"bytes", bytes}};
    fs::create_directory(tmp / "out" / name);
  }

  void add_result(const std::string& name, const std::string& verb,
                  std::vector<RecordedInput> inputs, const ordered_json& result) {
    add(name, verb, std::move(inputs));
    test::write_file(tmp / "out" / (name + ".json"), result.dump());
  }

  void add_evaluation(const std::string& name = "score") {
    const ordered_json score = {
        {"perplexity", 12.5}, {"nll", 2.5257}, {"nll_stderr", 0.03}, {"tokens", 511}};
    ordered_json text = {{"text", "/data/wiki.txt"}};
    text.update(score);
    text["perplexity"] = 14.25;
    text["reference"] = score;
    text["kl"] = {{"mean", 0.125}, {"median", 0.0625}, {"p90", 0.25},
                  {"p99", 0.5},    {"p999", nullptr},  {"max", 2.0}};
    text["top1_agreement"] = 0.875;
    add_result(name, "eval", {{"model", "int8", ""}, {"reference", "", "/models/m.gguf"}},
               {{"model", "out/int8"},
                {"context", 512},
                {"reference", "/models/m.gguf"},
                {"texts", {text}}});
  }

  report::RunFacts read() {
    write_run_record(tmp / "out", record);
    return read_run(tmp / "out");
  }

  std::string refusal() {
    write_run_record(tmp / "out", record);
    try {
      read_run(tmp / "out");
    } catch (const FormatError& error) {
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return "";
  }

  test::TemporaryFolder tmp;
  RunRecord record;
};

TEST_F(ReadRunTest, ASampleIsALinesFile) {
  add_evaluation();
  add("own", "sample", {{"model", "", "/models/m.gguf"}});
  test::write_file(tmp / "out/own.jsonl", "{}\n");
  for (const report::StageFacts& stage : read().stages) {
    EXPECT_EQ(stage.state, StageState::kFinished) << stage.name;
  }
  fs::remove(tmp / "out/own.jsonl");
  EXPECT_EQ(read().stages.back().state, StageState::kGone);
}

TEST_F(ReadRunTest, TheRecordIsReadAsItWasWritten) {
  record.stages["int8"].key = "k";
  write_run_record(tmp / "out", record);
  const RunRecord first = read_run_record(tmp / "out");
  EXPECT_EQ(first.recipe, record.recipe);
  EXPECT_EQ(first.models, record.models);
  EXPECT_EQ(first.stages.at("int8").command, record.stages["int8"].command);
  EXPECT_EQ(first.stages.at("int8").machine, record.stages["int8"].machine);
  EXPECT_EQ(first.stages.at("int8").ended, "2026-01-31T23:59:59Z");
  write_run_record(tmp / "out", first);
  EXPECT_EQ(read_run_record(tmp / "out"), first);
}

TEST_F(ReadRunTest, ModelsAreTheOriginalAndThoseThatStagesMade) {
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.models.size(), 3u);
  EXPECT_EQ(facts.original, 0u);
  EXPECT_EQ(facts.models[0].name, "original");
  EXPECT_EQ(facts.models[0].origin, "m.gguf");
  EXPECT_EQ(facts.models[0].bytes, 4000u);
  EXPECT_EQ(facts.models[1].origin, "quantize: bits 8");
  EXPECT_EQ(facts.models[2].origin, "heal of int8");
  EXPECT_EQ(facts.models[2].parameters, 600);
  EXPECT_EQ(facts.models[2].original_parameters, 1000);
  ASSERT_EQ(facts.stages.size(), 2u);
  EXPECT_EQ(facts.stages[0].machine, 0u);
  EXPECT_EQ(facts.machines.size(), 1u) << "one machine is told once";
}

TEST_F(ReadRunTest, EvaluationsComeWithWhatTheyComparedWith) {
  add_evaluation();
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.texts.size(), 1u);
  EXPECT_EQ(facts.texts[0].text, "wiki.txt");
  EXPECT_EQ(facts.texts[0].tokens, 511);
  ASSERT_EQ(facts.text_scores.size(), 2u);
  EXPECT_EQ(facts.text_scores[0].model, 1u);
  EXPECT_EQ(facts.text_scores[0].perplexity, 14.25);
  ASSERT_TRUE(facts.text_scores[0].kl);
  EXPECT_EQ(facts.text_scores[0].kl->p99, 0.5);
  EXPECT_TRUE(std::isnan(facts.text_scores[0].kl->p999)) << "JSON has no number for it";
  EXPECT_EQ(facts.text_scores[0].source, "score.json");
  EXPECT_EQ(facts.text_scores[1].model, 0u);
  EXPECT_EQ(facts.text_scores[1].perplexity, 12.5);
  EXPECT_FALSE(facts.text_scores[1].kl);
}

TEST_F(ReadRunTest, TextsAreOneWhereTheirTokensAre) {
  add_evaluation();
  const auto score_of = [&](const std::string& path, const std::string& fingerprint) {
    ordered_json text = {
        {"text", path}, {"perplexity", 10.0}, {"nll", 2.3}, {"nll_stderr", 0.1}, {"tokens", 511}};
    if (!fingerprint.empty()) text["fingerprint"] = fingerprint;
    return text;
  };
  const auto add = [&](const std::string& name, const RecordedInput& model,
                       const std::vector<ordered_json>& texts) {
    add_result(name, "eval", {model}, {{"context", 512}, {"texts", texts}});
  };
  add("first", {"model", "int8", ""}, {score_of("a/t.txt", "1"), score_of("b/t.txt", "2")});
  add("second", {"model", "healed", ""}, {score_of("./a/t.txt", "1"), score_of("self", "3")});
  add("third", {"model", "int8", ""}, {score_of("self", "4"), score_of("/other/wiki.txt", "")});
  std::vector<std::string> names;
  const report::RunFacts facts = read();
  for (const report::TextFacts& text : facts.texts) names.push_back(text.text);
  EXPECT_EQ(names, (std::vector<std::string>{"/data/wiki.txt", "a/t.txt", "b/t.txt",
                                             "self, written by healed", "self, written by int8",
                                             "/other/wiki.txt"}));
  EXPECT_EQ(facts.text_scores.size(), 8u);
}

TEST_F(ReadRunTest, EachModelHasItsOwnOriginal) {
  record.models.push_back({"/models/other.gguf", "other.gguf", 500, 2000});
  add_model("other8", "quantize", {"model", "", "/models/other.gguf"}, 500, 550);
  add_evaluation();
  record.recipe.back().inputs = {{"model", "other8", ""}, {"reference", "", "/models/other.gguf"}};
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.models.size(), 5u);
  const std::vector<std::optional<size_t>> originals = {0, 1, 0, 0, 1};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(facts.models[i].original, originals[i]) << i;
  ASSERT_EQ(facts.text_scores.size(), 2u);
  EXPECT_TRUE(facts.text_scores[0].kl);
  EXPECT_EQ(facts.text_scores[1].model, 1u);
}

TEST_F(ReadRunTest, ADivergenceFromAnotherModelIsNoneFromTheOriginal) {
  add_evaluation();
  record.recipe.back().inputs[1] = {"reference", "healed", ""};
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.text_scores.size(), 1u);
  EXPECT_FALSE(facts.text_scores[0].kl);
}

TEST_F(ReadRunTest, BenchmarksAreReadWithoutTheirParts) {
  const ordered_json scores = {{"name", "mmlu"},
                               {"alias", "mmlu"},
                               {"sample_len", 40},
                               {"acc,none", 0.5},
                               {"acc_stderr,none", 0.0625}};
  ordered_json reference = scores;
  reference["acc,none"] = 0.625;
  reference["acc_stderr,none"] = "N/A";
  add_result("tasks", "eval", {{"model", "int8", ""}, {"reference", "", "/models/m.gguf"}},
             {{"results", {{"mmlu", scores}, {"anatomy", scores}}},
              {"group_subtasks", {{"mmlu", {"anatomy"}}}},
              {"n-shot", {{"mmlu", 5}}},
              {"higher_is_better", {{"mmlu", {{"acc", true}}}}},
              {"reference", {{"mmlu", reference}}},
              {"recovery", {{"mmlu", {{"acc,none", 80.0}}}}}});
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.task_scores.size(), 2u);
  EXPECT_EQ(facts.task_scores[0].model, 1u);
  EXPECT_EQ(facts.task_scores[0].metric, "acc");
  EXPECT_EQ(facts.task_scores[0].value, 0.5);
  EXPECT_EQ(facts.task_scores[0].standard_error, 0.0625);
  EXPECT_EQ(facts.task_scores[0].recovery, 80.0);
  EXPECT_EQ(facts.task_scores[0].fewshot, 5);
  EXPECT_EQ(facts.task_scores[1].model, 0u);
  EXPECT_EQ(facts.task_scores[1].value, 0.625);
  EXPECT_FALSE(facts.task_scores[1].standard_error);

  record.recipe.back().inputs[1] = {"reference", "healed", ""};
  EXPECT_FALSE(read().task_scores.at(0).recovery) << "of another model's score";
}

TEST_F(ReadRunTest, SpeedsAndTextsBelongToTheModelsInTheirOrder) {
  ordered_json results;
  for (const char* model : {"a", "b"}) {
    for (const char* test : {"pp8", "tg4"}) {
      results.push_back({{"model", model},
                         {"test", test},
                         {"tokens_per_second", model[0] == 'a' ? 100.0 : 150.0},
                         {"stddev", 1.0},
                         {"ratio_to_first", model[0] == 'a' ? 1.0 : 1.5}});
    }
  }
  add_result("speed", "bench", {{"model", "", "/models/m.gguf"}, {"model", "healed", ""}},
             {{"results", results}});
  const ordered_json sample = {{"prompt", "A"}, {"text", " b"}};
  add_result("one", "generate", {{"model", "int8", ""}}, sample);
  add_result("two", "generate", {{"model", "healed", ""}},
             {{"continuations", {sample, {{"prompt", "C"}, {"text", " d"}}}}});
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.speeds.size(), 4u);
  EXPECT_EQ(facts.speeds[1].model, 0u);
  EXPECT_EQ(facts.speeds[3].model, 2u);
  EXPECT_EQ(facts.speeds[3].test, "tg4");
  EXPECT_EQ(facts.speeds[3].ratio, 1.5);
  ASSERT_EQ(facts.samples.size(), 3u);
  EXPECT_EQ(facts.samples[0].model, 1u);
  EXPECT_EQ(facts.samples[2].model, 2u);
  EXPECT_EQ(facts.samples[2].prompt, "C");
}

TEST_F(ReadRunTest, StagesThatAreNotDoneAreKnownAsSuch) {
  add_evaluation();
  record.recipe.push_back({"later", "eval", {}});
  record.recipe.push_back({"page", "report", {}});
  record.stages["healed"].finished = false;
  fs::remove(tmp / "out/score.json");
  const report::RunFacts facts = read();
  ASSERT_EQ(facts.stages.size(), 4u) << "the page is none of what it shows";
  EXPECT_EQ(facts.stages[0].state, StageState::kFinished);
  EXPECT_EQ(facts.stages[1].state, StageState::kBegun);
  EXPECT_EQ(facts.stages[2].state, StageState::kGone);
  EXPECT_EQ(facts.stages[3].state, StageState::kNotBegun);
  EXPECT_EQ(facts.models.size(), 2u);
  EXPECT_TRUE(facts.text_scores.empty());
}

TEST_F(ReadRunTest, WhatIsNoRunIsRefusedInOneLine) {
  EXPECT_THROW(read_run(tmp / "out"), c10::ValueError) << "there is no run.json";
  EXPECT_THROW(report_run(tmp / "absent", tmp / "r.html", false), c10::ValueError);
  for (auto& [name, stage] : record.stages) stage.finished = false;
  EXPECT_THROW(read(), c10::ValueError) << "nothing is finished";
  record.recipe.clear();
  EXPECT_THROW(read(), c10::ValueError);
  test::write_file(tmp / "out/run.json", "{");
  EXPECT_THROW(read_run(tmp / "out"), FormatError);
}

TEST_F(ReadRunTest, AFileThatDoesNotHoldItsResultIsNamed) {
  add_evaluation();
  const fs::path file = tmp / "out/score.json";
  for (const char* text : {"", "{", "[]", "{}", R"({"context": 512, "texts": [{"text": "a"}]})",
                           R"({"context": "x", "texts": []})"}) {
    test::write_file(file, text);
    const std::string said = refusal();
    EXPECT_TRUE(said.starts_with(file.string() + ": ")) << said;
    EXPECT_EQ(said.find('\n'), said.npos) << said;
  }
  record.recipe.back().name = "../score";
  EXPECT_NE(refusal().find("names of stages without a slash"), std::string::npos);
}

TEST_F(ReadRunTest, ThePageLinksToTheFolderFromWhereItStands) {
  add_evaluation();
  write_run_record(tmp / "out", record);
  const auto page_at = [&](const fs::path& place) {
    report_run(tmp / "out", place, false);
    return test::read_file(place);
  };
  EXPECT_NE(page_at(tmp / "out/report.html").find("href=\"score.json\""), std::string::npos);
  EXPECT_NE(page_at(tmp / "page.html").find("href=\"out/score.json\""), std::string::npos);
  fs::create_directory(tmp / "pages");
  EXPECT_NE(page_at(tmp / "pages/page.html").find("href=\"../out/score.json\""), std::string::npos);
  EXPECT_THROW(page_at(tmp / "page.html"), c10::ValueError) << "it is there";
  report_run(tmp / "out", tmp / "page.html", /*force=*/true);
  test::write_file(tmp / "own.html", "<p>mine</p>");
  EXPECT_THROW(report_run(tmp / "out", tmp / "own.html", true), c10::ValueError);
  EXPECT_THROW(report_run(tmp / "out", tmp / "page.pdf", false), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::pipeline
