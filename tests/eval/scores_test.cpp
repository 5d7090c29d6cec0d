#include "schmidt/eval/scores.h"

#include <cmath>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_report.h"
#include "schmidt/eval/tasks.h"

namespace schmidt::eval {
namespace {

// The numbers are what functions of lm_eval/api/metrics.py 0.4.13 printed.

TEST(Scores, StandardErrorsAreTheHarness) {
  const std::vector<double> right = {1, 0, 1, 1, 0};
  const Estimate accuracy = estimate({"acc"}, right);
  EXPECT_DOUBLE_EQ(accuracy.value, 0.6);
  EXPECT_NEAR(*accuracy.standard_error, 0.24494897427831783, 1e-15);
  EXPECT_FALSE(estimate({"acc"}, std::vector<double>{1.0}).standard_error);
  EXPECT_THROW(estimate({"acc"}, {}), c10::ValueError);

  const std::vector<Estimate> sets = {{0.5, 0.1}, {0.25, 0.2}, {0.75, 0.05}};
  const std::vector<int64_t> sizes = {5, 7, 11};
  EXPECT_NEAR(pooled(sets, sizes).value, 0.5434782608695652, 1e-15);
  EXPECT_NEAR(*pooled(sets, sizes).standard_error, 0.06844547179102248, 1e-15);
  EXPECT_FALSE(pooled(std::vector<Estimate>{{0.5, 0.1}, {1.0, {}}}, std::vector<int64_t>{5, 1})
                   .standard_error);
}

TEST(Scores, TheErrorOfPerplexityIsTheHarnessBootstrap) {
  const std::vector<double> likely = {-1.5, -0.25, -3.0, -2.0, -7.5};
  const Estimate perplexity = estimate({"perplexity", "none", false}, likely);
  EXPECT_NEAR(perplexity.value, 17.28778184056764, 1e-12);
  EXPECT_NEAR(*perplexity.standard_error, 71.26043992681032, 1e-9);
}

TEST(Scores, ChoicesCountByLikelihoodAndByLength) {
  const Question question{"q", {"aaaa", "bé", "c"}, 1};
  const Response response{{-4, -2.5, -2}, false, ""};
  EXPECT_EQ(likeliest_choice(question, response.log_likelihoods, false), 2u);
  EXPECT_EQ(likeliest_choice(question, response.log_likelihoods, true), 0u);  // 1, 1.25, 2 nats
  EXPECT_EQ(likeliest_choice(question, std::vector<double>{-2, -1, -1}, false), 1u);  // the first
  EXPECT_EQ(scores_of(find_task("hellaswag"), {"q", {"aaaa", "c"}, 0}, {{-3, -2}, false, ""}),
            (std::vector<double>{0, 1}));
  EXPECT_EQ(scores_of(find_task("mmlu"), question, response), (std::vector<double>{0}));
  EXPECT_EQ(scores_of(find_task("lambada_openai"), {"q", {"word"}, 0}, {{-0.5}, true, ""}),
            (std::vector<double>{-0.5, 1}));
}

// Filters and metric of the harness printed these for the same texts.
TEST(Scores, NumbersAreExtractedAsInTheHarness) {
  Question question;
  question.answers = {"He has 3 + 2 = <<3+2=5>>5.\n#### 1,205"};
  struct Case {
    const char* text;
    const char* strict;
    const char* flexible;
    std::vector<double> scores;
  };
  const Task& gsm8k = find_task("gsm8k");
  for (const Case& c :
       std::vector<Case>{{"so #### 1205", "1205", "1205", {1, 1}},
                         {"It is 1,205.", "[invalid]", "1,205.", {0, 1}},
                         {"#### -3.5, then #### 7", "-3.5,", "7", {0, 0}},
                         {"none", "[invalid]", "[invalid]", {0, 0}},
                         {"cost $1,205.00 or $1,205.", "[invalid]", "$1,205.", {0, 1}},
                         {"#### x 12 #### 1205.", "1205.", "1205.", {1, 1}},
                         {"#### \u0663 5", "[invalid]", "5", {0, 0}},
                         {"a - 5 -6-7", "[invalid]", "-7", {0, 0}},
                         {"x #### ,", ",", "[invalid]", {0, 0}}}) {
    EXPECT_EQ(gsm8k.extractions[0].extract(c.text), c.strict) << c.text;
    EXPECT_EQ(gsm8k.extractions[1].extract(c.text), c.flexible) << c.text;
    EXPECT_EQ(scores_of(gsm8k, question, {{}, false, c.text}), c.scores) << c.text;
  }
}

TEST(Scores, AnswersToTriviaMatchWithoutCaseAndPunctuation) {
  const auto score = [](const std::string& text, std::vector<std::string> answers) {
    Question question;
    question.answers = std::move(answers);
    return scores_of(find_task("triviaqa"), question, {{}, false, text}).at(0);
  };
  EXPECT_EQ(score(" the \u00c9tude! ", {"x", "The \u00e9tude"}), 1);
  EXPECT_EQ(score("U.S.", {"us"}), 1);
  EXPECT_EQ(score("a  b", {"a b"}), 0);
  EXPECT_EQ(score("\u201cx\u201d", {"x"}), 0);  // only ASCII's punctuation goes
  EXPECT_EQ(score("x", {}), 0);
}

TEST(Scores, TextIsStrippedAsInPython) {
  EXPECT_EQ(stripped("\u00a0\x1c a \u3000\n"), "a");
  EXPECT_EQ(right_stripped(" a\u2003\t"), " a");
  EXPECT_EQ(stripped("\u200b a"), "\u200b a");  // no white space
  EXPECT_EQ(stripped(" \n"), "");
}

TEST(TaskReport, HasTheHarnessShapeWithCategoriesAndRecovery) {
  const Task& mmlu = find_task("mmlu");
  const Question asked{"q", {"A", "B", "C", "D"}, 0};
  TaskResult result;
  result.task = &mmlu;
  result.sets = {{"mmlu_anatomy", "anatomy", "mmlu_stem", 2, 9, {asked, asked}},
                 {"mmlu_virology", "virology", "mmlu_other", 2, 9, {asked, asked, asked}}};
  result.responses = {std::vector<Response>(2, {{-1, -2, -3, -4}, false, ""}),
                      std::vector<Response>(3, {{-2, -1, -3, -4}, false, ""})};
  result.scores = task_scores(mmlu, result.sets, {{{1}, {0}}, {{1}, {1}, {0}}});
  result.reference = task_scores(mmlu, result.sets, {{{1}, {1}}, {{1}, {1}, {1}}});
  const auto json = results_json({result});
  const auto& results = json.at("results");
  EXPECT_EQ(results.at("mmlu").at("acc,none"), 0.6);
  EXPECT_EQ(results.at("mmlu").at("sample_len"), 5);
  EXPECT_NEAR(results.at("mmlu_anatomy").at("acc_stderr,none").get<double>(), 0.5, 1e-12);
  EXPECT_EQ(results.at("mmlu_stem").at("alias"), "stem");
  EXPECT_EQ(results.at("mmlu_other").at("acc,none"), 2.0 / 3);
  EXPECT_TRUE(json.at("groups").contains("mmlu_other"));
  EXPECT_FALSE(json.at("groups").contains("mmlu_virology"));
  EXPECT_EQ(json.at("group_subtasks").at("mmlu").size(), 2u);
  EXPECT_EQ(json.at("group_subtasks").at("mmlu_stem").at(0), "mmlu_anatomy");
  EXPECT_EQ(json.at("n-shot").at("mmlu_anatomy"), 2);
  EXPECT_EQ(json.at("n-samples").at("mmlu_virology").at("original"), 9);
  EXPECT_EQ(json.at("n-samples").at("mmlu_virology").at("effective"), 3);
  EXPECT_NEAR(json.at("recovery").at("mmlu").at("acc,none").get<double>(), 60.0, 1e-9);
  EXPECT_EQ(json.at("reference").at("mmlu").at("acc,none"), 1.0);
  const auto samples = samples_json({result});
  EXPECT_EQ(samples.at("mmlu_virology").size(), 3u);
  EXPECT_EQ(samples.at("mmlu_virology").at(2).at("choice"), 1);
  EXPECT_EQ(*recovery({"perplexity", "none", false}, {20, {}}, {10, {}}), 50.0);
  EXPECT_FALSE(recovery({"acc"}, {0.5, {}}, {0, {}}));
}

TEST(TaskReport, ResponsesComeBackAsTheyWere) {
  const Response choices{{-1.0 / 3, -std::numeric_limits<double>::infinity()}, true, ""};
  const Response back = response_of(nlohmann::ordered_json::parse(response_json(choices).dump()));
  EXPECT_EQ(back.log_likelihoods[0], -1.0 / 3);
  EXPECT_TRUE(std::isnan(back.log_likelihoods[1]));
  EXPECT_TRUE(back.likeliest);
  EXPECT_EQ(response_of(response_json({{}, false, "a\nb"})).text, "a\nb");
}

}  // namespace
}  // namespace schmidt::eval
