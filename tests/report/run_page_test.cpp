#include "schmidt/report/run_page.h"

#include <limits>

#include <gtest/gtest.h>

#include "schmidt/report/decomposition_figure.h"
#include "schmidt/report/quality_figure.h"

#include "tests/report/made_run.h"
#include "tests/report/markup.h"
#include "tests/support/support.h"

namespace schmidt::report {
namespace {

using test::count;
using test::made_run;

std::string text_of(const std::vector<Cell>& cells) {
  std::string text;
  for (const Cell& cell : cells) text += cell.text;
  return text;
}

TEST(RunPage, HoldsWhatTheRunMadeAndMeasured) {
  const std::string page = run_page(made_run(), "");
  EXPECT_TRUE(test::well_formed(page));
  for (const char* cell :
       {// table I
        "55.6", "55,571,568", "20.7 %", "67,257,504", "50.0 %", "3.31", "269,060,552", "16.00",
        // table II
        "18.250", "2.9042", "0.0312", "0.0640", "0.1280", "94.0 %",
        // times and settings
        "1 h 12 min", "7", "13 s"}) {
    EXPECT_GE(count(page, ">" + std::string(cell) + "<"), 1u) << cell;
  }
  EXPECT_GE(count(page, ">43.00 ± 0.49<"), 1u);
  EXPECT_GE(count(page, ">41.00 ± 0.49 (95.3 %)<"), 1u);
  for (const char* title :
       {"Quality against bytes, wiki.test.raw", "Quality against time, chat.valid.txt",
        "Sizes of the models", "Time of a token", "A weight as a Matrix Product Operator",
        "Numbers stored against the bond dimension", "Which layers bear compression",
        "KL divergence from the original", "The capital of France is", "How it was made"}) {
    EXPECT_GE(count(page, title), 1u) << title;
  }
  EXPECT_EQ(count(page, ">schmidt quantize m --bits=8 --json</code>"), 1u);
  EXPECT_EQ(count(page, ">schmidt heal 'two words' --seed=7</code>"), 1u);
  EXPECT_EQ(count(page, "&lt;b&gt;more&lt;/b&gt;"), 10u);
  for (const char* outside : {"src=", "<script", "@import", "url(", "http://", "https://"}) {
    const size_t of_figures = outside == std::string_view("http://")
                                  ? count(page, "xmlns=\"http://www.w3.org/2000/svg\"")
                                  : 0;
    EXPECT_EQ(count(page, outside), of_figures) << outside;
  }
}

TEST(RunPage, BeginsWithTheSmallestModelAndItsLoss) {
  EXPECT_EQ(
      text_of(finding_of(made_run(), "")),
      "The smallest model, mixed, takes 55.57 MB, 20.7 % of the original's 269.1 MB, and its "
      "perplexity on wiki.test.raw is 23.433 where the original's is 18.250: a loss of 0.2500 "
      "nats a token.");
  RunFacts facts = made_run();
  std::erase_if(facts.text_scores, [](const auto& score) { return score.model == 5; });
  EXPECT_EQ(text_of(finding_of(facts, "")).substr(0, 26), "The smallest model, size80")
      << "a size says nothing by itself";
  facts.text_scores.clear();
  EXPECT_NE(text_of(finding_of(facts, "")).find(", int4,"), std::string::npos);
  facts.task_scores.clear();
  EXPECT_NE(text_of(finding_of(facts, "")).find("nothing in the run measures what it loses"),
            std::string::npos);
  facts.models.resize(1);
  EXPECT_EQ(text_of(finding_of(facts, "")),
            "The run made no model; it read SmolLM2-135M-Instruct.");
}

TEST(RunPage, AModelIsComparedWithItsOwnOriginal) {
  RunFacts facts = made_run();
  facts.models.push_back({"little", "little.gguf", 100, 100, 400, "run.json", 7});
  facts.models.push_back({"little4", "quantize: bits 4", 100, 100, 100, "run.json", 7});
  for (size_t i : {7, 8}) {
    facts.text_scores.push_back({i, 0, 20.0 + static_cast<double>(i), std::log(20.0 + i), 0.01});
  }
  EXPECT_EQ(text_of(finding_of(facts, "")),
            "The smallest model, little4, takes 100 bytes, 25.0 % of little's 400 bytes, and its "
            "perplexity on wiki.test.raw is 28.000 where little's is 27.000: a loss of 0.0364 nats "
            "a token.");
  EXPECT_EQ(count(run_page(facts, ""), ">0.0 %<"), 0u);

  facts.text_scores.back().perplexity = facts.text_scores.back().nll = std::nan("");
  (facts.text_scores.end() - 2)->perplexity = std::nan("");
  EXPECT_NE(text_of(finding_of(facts, "")).find("is no finite number where little's is no finite "),
            std::string::npos);
}

TEST(RunPage, OnlyWhatWasMeasuredInOneWayIsCompared) {
  RunFacts facts = made_run();
  for (const size_t model : {0, 1}) {
    facts.speeds.push_back({model, "batch", "tg128", 4000.0, 1.0, 1.0, "batch.json", 8});
    TaskScoreFacts score{.model = model, .task = "boolq", .metric = "acc_norm", .value = 0.25};
    score.questions = 2;
    facts.task_scores.push_back(score);
  }
  std::ranges::rotate(facts.speeds, facts.speeds.end() - 2);
  const std::string page = run_page(facts, "");
  EXPECT_GE(count(page, ">25<"), 1u) << "40 tokens a second are 25 ms a token";
  EXPECT_EQ(count(page, ">0.25<"), 0u);
  EXPECT_EQ(count(page, "decoding 128 tokens, 8 sequences at once"), 1u);
  EXPECT_EQ(count(page, "boolq, acc_norm, 2 questions, 0 examples"), 1u);
  EXPECT_EQ(count(page, "boolq, acc_norm, 10,042 questions, 0 examples"), 1u);
}

TEST(RunPage, NumbersLinkToTheFilesOfTheRun) {
  const std::string page = run_page(made_run(), "../a b/");
  for (const char* link : {"../a%20b/mixed-eval.json", "../a%20b/run.json", "../a%20b/speed.json",
                           "../a%20b/healed/heal.jsonl", "../a%20b/sensitivity.json",
                           "../a%20b/int8-text.json", "../a%20b/int4-tasks.json"}) {
    EXPECT_GE(count(page, "<a href=\"" + std::string(link) + "\">"), 1u) << link;
  }
  EXPECT_EQ(count(page, "<a href=\""), count(page, "<a href=\"../a%20b/"));
}

TEST(RunPage, StagesThatAreNotDoneAreNamed) {
  const std::string page = run_page(made_run(), "");
  EXPECT_EQ(count(page,
                  "Not all of the run is here: mixed-eval (eval, begun, not finished); later "
                  "(bench, not begun); lost (eval, its result is gone)."),
            1u);
  RunFacts facts = made_run();
  facts.stages.resize(2);
  EXPECT_EQ(count(run_page(facts, ""), "Not all of"), 0u);
}

TEST(RunPage, NamesFromOutsideAreText) {
  RunFacts facts = made_run();
  const std::string hostile = "<script>alert(\"1\")</script>&\x01\xff";
  for (ModelFacts& model : facts.models) model.name = model.origin = model.source = hostile;
  for (TextFacts& text : facts.texts) text.text = hostile;
  for (TaskScoreFacts& score : facts.task_scores) score.task = score.metric = hostile;
  for (SpeedFacts& speed : facts.speeds) speed.stage = speed.source = hostile;
  for (SampleFacts& sample : facts.samples) sample.prompt = sample.text = hostile;
  for (StageFacts& stage : facts.stages) {
    stage.name = stage.verb = stage.ended = stage.program = hostile;
    stage.command = {hostile};
  }
  facts.machines.front().processor = facts.name = hostile;
  facts.largest_mlp_weight->name = hostile;
  const std::string page = run_page(facts, "");
  EXPECT_TRUE(test::well_formed(page));
  EXPECT_EQ(count(page, "<script"), 0u);
  EXPECT_EQ(count(page, "\x01"), 0u);
  EXPECT_GE(count(page, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;\\x01\\xFF"), 20u);
  EXPECT_GE(count(page, "href=\"%3Cscript%3E"), 5u);
}

TEST(RunPage, LeavesOutWhatTheRunDoesNotHave) {
  const RunFacts whole = made_run();
  RunFacts facts{.name = "little", .models = {whole.models[0]}, .original = 0};
  facts.stages = {whole.stages[0]};
  std::string page = run_page(facts, "");
  EXPECT_TRUE(test::well_formed(page));
  for (const char* part :
       {"<figure", "<svg", "Table II", "Healing", "Which layers", "go on with", "nan", "inf"}) {
    EXPECT_EQ(count(page, part), 0u) << part;
  }
  EXPECT_EQ(count(page, "Table I"), 1u);

  facts = whole;
  facts.original.reset();
  facts.speeds.clear();
  facts.healings.clear();
  facts.text_scores[1].perplexity = std::numeric_limits<double>::quiet_NaN();
  page = run_page(facts, "");
  EXPECT_TRUE(test::well_formed(page));
  EXPECT_EQ(count(page, "of the original<"), 1u) << "bits a parameter, alone";
  EXPECT_EQ(count(page, ">not finite<"), 1u);
  EXPECT_EQ(count(page, "against time"), 0u);
  EXPECT_EQ(count(page, "nan"), 0u);
}

TEST(QualityFigure, TheFrontierIsWhatNothingBeatsInBoth) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const std::vector<MeasuredPoint> points = {
      {"large", 10, 1}, {"beaten", 8, 3},         {"middle", 6, 2}, {"broken", 1, none},
      {"small", 2, 5},  {"same as middle", 6, 2}, {"worse", 6, 4}};
  EXPECT_EQ(frontier_of(points), (std::vector<size_t>{4, 2, 0}));
  const std::string svg = quality_svg({"Title", "MB", "perplexity"}, points);
  EXPECT_TRUE(test::well_formed(svg));
  for (const MeasuredPoint& point : points) {
    EXPECT_EQ(count(svg, ">" + point.name + "</text>"), point.name == "broken" ? 0u : 1u)
        << point.name;
  }
}

TEST(DecompositionFigure, CountsWhatTheCoresHold) {
  // The paper's example: 216 x 216 as 3 sites of 6 x 6.
  const Decomposition paper = decompose(216, 216);
  ASSERT_EQ(paper.shapes.size(), 2u);
  EXPECT_EQ(count_formula(paper.shapes[1]), "36 χ + 36 χ² + 36 χ");
  EXPECT_EQ(parameters_at(paper.shapes[1], 10), 36 * 10 + 36 * 100 + 36 * 10);
  const int64_t last = last_saving_bond(paper, paper.shapes[1]);
  EXPECT_LT(parameters_at(paper.shapes[1], last), 216 * 216);
  EXPECT_GE(parameters_at(paper.shapes[1], last + 1), 216 * 216);
  EXPECT_TRUE(test::well_formed(network_svg(paper)));
  EXPECT_TRUE(decompose(7, 1).shapes.empty()) << "one index value for a site is none";
}

}  // namespace
}  // namespace schmidt::report
