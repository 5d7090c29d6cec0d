#include "schmidt/pipeline/run_recipe.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::pipeline {
namespace {

class RunRecipeTest : public ::testing::Test {
 protected:
  RunRecipe read(const std::string& yaml, const RecipeVariables& set = {}) {
    test::write_file(tmp / "recipe.yaml", yaml);
    return read_run_recipe(tmp / "recipe.yaml", "results", set);
  }

  // The one line that says what is wrong, without the file's name.
  std::string refusal(const std::string& yaml, const RecipeVariables& set = {}) {
    try {
      read(yaml, set);
    } catch (const FormatError& error) {
      const std::string text = error.what(), path = (tmp / "recipe.yaml").string() + ": ";
      EXPECT_TRUE(text.starts_with(path)) << text;
      EXPECT_EQ(text.find('\n'), text.npos) << text;
      return text.substr(path.size());
    }
    ADD_FAILURE() << "accepted: " << yaml;
    return "";
  }

  test::TemporaryFolder tmp;
};

TEST_F(RunRecipeTest, ReadsStagesInTheirOrderWithPlaces) {
  const RunRecipe recipe = read(
      "stages:\n"
      "  - name: small\n"
      "    compress:\n"
      "      model: m\n"
      "      calibration: [a, b]\n"
      "      keep: 0.5\n"
      "  - {name: score, eval: {model: small, exact: true}}\n"
      "  - name: bare\n"
      "    bench:\n");
  ASSERT_EQ(recipe.stages.size(), 3u);
  const Stage& small = recipe.stages[0];
  EXPECT_EQ(small.name, "small");
  EXPECT_EQ(small.verb, "compress");
  ASSERT_EQ(small.options.size(), 3u);
  EXPECT_EQ(small.options[0].name, "model");
  EXPECT_FALSE(small.options[0].is_list);
  EXPECT_EQ(small.options[1].values, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(small.options[1].is_list);
  EXPECT_EQ(small.options[2].values, std::vector<std::string>{"0.5"});
  EXPECT_EQ(small.options[2].place.line, 6);
  EXPECT_EQ(small.options[2].place.column, 13);
  EXPECT_EQ(recipe.stages[1].options[1].values, std::vector<std::string>{"true"});
  EXPECT_TRUE(recipe.stages[2].options.empty());
}

TEST_F(RunRecipeTest, ReplacesVariables) {
  const std::string yaml =
      "variables:\n"
      "  data: texts\n"
      "  model:\n"
      "  files: ['${data}/a', b]\n"
      "stages:\n"
      "  - name: s\n"
      "    eval:\n"
      "      model: ${model}\n"
      "      text: ${files}\n"
      "      more: [c, '${files}', '${data}.txt']\n"
      "      statistics: ${out}/kept\n"
      "      layers: 're:a$${x}'\n";
  const auto values = [&](const RecipeVariables& set) {
    std::vector<std::vector<std::string>> all;
    const RunRecipe recipe = read(yaml, set);
    for (const StageOption& option : recipe.stages[0].options) all.push_back(option.values);
    return all;
  };
  using Values = std::vector<std::vector<std::string>>;
  EXPECT_EQ(values({{"model", "a/b"}}), (Values{{"a/b"},
                                                {"texts/a", "b"},
                                                {"c", "texts/a", "b", "texts.txt"},
                                                {"results/kept"},
                                                {"re:a${x}"}}));
  // A list takes several values, and text from outside is taken as it is.
  EXPECT_EQ(
      values({{"model", "${data}"}, {"data", "d"}, {"files", "x,y"}}),
      (Values{{"${data}"}, {"x", "y"}, {"c", "x", "y", "d.txt"}, {"results/kept"}, {"re:a${x}"}}));
  EXPECT_EQ(refusal(yaml),
            "line 8, column 14: the variable \"model\" has no value; give it by "
            "--set model=VALUE");
  EXPECT_THROW(read(yaml, {{"modle", "m"}}), c10::ValueError);
  EXPECT_THROW(read(yaml, {{"out", "m"}}), c10::ValueError);
}

TEST_F(RunRecipeTest, LeavesOutAStageWhoseIfSaysNo) {
  const std::string yaml =
      "variables: {tasks: [], also: false}\n"
      "stages:\n"
      "  - {name: a, eval: {model: m}}\n"
      "  - {name: b, if: '${tasks}', eval: {model: m, tasks: '${tasks}'}}\n"
      "  - {name: c, if: '${also}', eval: {model: m}}\n";
  const auto names = [&](const RecipeVariables& set) {
    std::string all;
    for (const Stage& stage : read(yaml, set).stages) all += stage.name;
    return all;
  };
  EXPECT_EQ(names({}), "a");
  EXPECT_EQ(names({{"tasks", "boolq,mmlu"}}), "ab");
  EXPECT_EQ(names({{"tasks", ""}, {"also", "true"}}), "ac");
  EXPECT_EQ(refusal("stages:\n  - {name: a, if: maybe, eval: {model: m}}\n"),
            "line 2, column 19: expected true, false or a list, got \"maybe\"");
  EXPECT_EQ(refusal("stages:\n  - {name: a, if: false, eval: {model: m}}\n"),
            "line 2, column 3: expected a stage, and the \"if\" of all says no");
  EXPECT_EQ(refusal("variables: {l: []}\nstages:\n  - {name: a, eval: {text: '${l}'}}\n"),
            "line 3, column 28: expected values, got an empty list");
}

TEST_F(RunRecipeTest, SaysWhereARecipeIsWrong) {
  const auto stage = [](const std::string& option) {
    return "stages:\n  - name: s\n    eval:\n      " + option + "\n";
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "expected one YAML document, got 0"},
      {"stages: []\n---\nstages: []\n", "expected one YAML document, got 2"},
      {"- a\n", "line 1, column 1: expected a map"},
      {"stages: [\n", "line 2, column 1: expected YAML: "},
      {"stages:\n\t- a\n", "line 2, column 2: expected YAML: "},
      {"variables: {a: 1}\n", "line 1, column 1: expected a list of stages"},
      {"stages: []\n", "line 1, column 9: expected a list of stages"},
      {"steps: 1\n", "line 1, column 8: expected \"variables\" or \"stages\", got \"steps\""},
      {"variables: {out: 1}\n", "line 1, column 18: expected another name of a variable"},
      {"variables: {a: '${b}', b: 1}\n", "line 1, column 16: there is no variable \"b\" before it"},
      {"stages:\n  - 3\n", "line 2, column 5: expected a stage"},
      {"stages:\n  - eval: {}\n", "line 2, column 5: expected a \"name\""},
      {"stages:\n  - name: s\n", "line 2, column 5: stage \"s\": expected a verb"},
      {"stages:\n  - name: ../s\n    eval: {}\n", "line 2, column 11: expected a name of letters"},
      {"stages:\n  - name: run\n    eval: {}\n", "line 2, column 11: expected another name"},
      {"stages:\n  - name: s\n    eval: {}\n    bench: {}\n",
       "line 4, column 12: expected one verb in a stage, got \"eval\" and \"bench\""},
      {"stages:\n  - {name: s, eval: {}}\n  - {name: s, bench: {}}\n",
       "line 3, column 5: expected stages of different names, got \"s\" twice"},
      {"stages:\n  - name: s\n    eval: 3\n", "line 3, column 11: expected a map of options"},
      {stage("text: ${a}"), "line 4, column 13: there is no variable \"a\""},
      {stage("text: a${"), "line 4, column 13: \"${\" without \"}\""},
      {stage("text: {a: b}"), "line 4, column 13: expected a single value"},
      {stage("text: [a, [b]]"), "line 4, column 17: expected a single value"},
      {stage("text: []"), "line 4, column 13: expected values, got an empty list"},
      {stage("text:"), "line 4, column 7: expected a value of \"text\", got nothing"},
      {stage("text: ''"), "line 4, column 13: expected a value, got an empty one"},
      {stage("text: \"a\\0b\""), "line 4, column 13: expected no NUL"},
      {stage("text: a\n      text: b"), "line 5, column 7: \"text\" stands here twice"},
      {"variables: {l: [a, b]}\n" + stage("text: x${l}"),
       "line 5, column 13: the variable \"l\" is a list"},
  };
  for (const auto& [yaml, part] : cases) {
    const std::string said = refusal(yaml);
    EXPECT_NE(said.find(part), said.npos) << yaml << "\n  said: " << said << "\n  not:  " << part;
  }
}

TEST_F(RunRecipeTest, SurvivesHostileFiles) {
  std::string deep = "stages: ";
  for (int i = 0; i < 5000; ++i) deep += "[";
  refusal(deep);
  refusal("stages: &a [*a]\n");
  refusal(std::string(1'000'001, '#'));
  EXPECT_THROW(read_run_recipe(tmp / "absent", "results", {}), SystemError);
  EXPECT_THROW(read_run_recipe(tmp.path(), "results", {}), SystemError);
}

}  // namespace
}  // namespace schmidt::pipeline
