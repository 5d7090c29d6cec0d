#include "schmidt/eval/tasks.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::eval {
namespace {

namespace fs = std::filesystem;

class TasksTest : public ::testing::Test {
 protected:
  TasksTest() {
    write("mmlu/test/high_school_biology_test.csv",
          "\" Which one, \"\"exactly\"\"? \",w,\"x, y\",z,v,C\nSecond?,1,2,3,4,A\n");
    write("mmlu/dev/high_school_biology_dev.csv", "Shown?,a,b,c,d,B\nAlso?,a,b,c,d,D\n");
    write("mmlu/test/anatomy_test.csv", "Bone?,1,2,3,4,D\n");
    write("mmlu/dev/anatomy_dev.csv", "Skull?,1,2,3,4,A\nRib?,1,2,3,4,B\n");
    write("hellaswag/validation.jsonl",
          R"({"query": "He sits", "choices": ["down.", "up."], "gold": 0})"
          "\n\n"
          R"({"query": "She runs", "choices": ["away.", "home."], "gold": 1})");
    write("boolq/dev.jsonl",
          R"({"question": "is it", "title": "t", "answer": "True", "passage": "It is."})"
          "\n"
          R"({"question": "was it", "title": "t", "answer": false, "passage": "No."})"
          "\n");
  }

  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories((tmp / name).parent_path());
    test::write_file(tmp / name, bytes);
  }
  std::vector<Question> read(const char* task, const TaskOptions& options = {}) {
    return find_task(task).read(tmp.path(), options);
  }
  std::string refusal(const char* task, const TaskOptions& options = {}) {
    try {
      read(task, options);
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  }

  test::TemporaryFolder tmp;
};

TEST_F(TasksTest, MmluIsWordedAsInTheHarness) {
  const auto questions = read("mmlu", {.fewshot = 1});
  ASSERT_EQ(questions.size(), 3u);
  EXPECT_EQ(questions[0].answer, 3u);  // subjects in alphabetical order
  EXPECT_EQ(questions[1].prompt,
            "The following are multiple choice questions (with answers) about high school "
            "biology.\n\n"
            "Shown?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n"
            "Which one, \"exactly\"?\nA. w\nB. x, y\nC. z\nD. v\nAnswer:");
  EXPECT_EQ(questions[1].choices, (std::vector<std::string>{"A", "B", "C", "D"}));
  EXPECT_EQ(questions[1].answer, 2u);
  EXPECT_EQ(read("mmlu", {.limit = 1}).size(), 2u);  // of each subject
}

TEST_F(TasksTest, HellaswagAndBoolqAreWordedAsInTheHarness) {
  const auto hellaswag = read("hellaswag");
  ASSERT_EQ(hellaswag.size(), 2u);
  EXPECT_EQ(hellaswag[1].prompt, "She runs");
  EXPECT_EQ(hellaswag[1].choices, (std::vector<std::string>{"away.", "home."}));
  EXPECT_EQ(hellaswag[1].answer, 1u);
  const auto boolq = read("boolq");
  ASSERT_EQ(boolq.size(), 2u);
  EXPECT_EQ(boolq[0].prompt, "It is.\nQuestion: is it?\nAnswer:");
  EXPECT_EQ(boolq[0].choices, (std::vector<std::string>{"no", "yes"}));
  EXPECT_EQ(boolq[0].answer, 1u);
  EXPECT_EQ(boolq[1].answer, 0u);
  EXPECT_EQ(read("boolq", {.limit = 1}).size(), 1u);
}

// As its authors publish it; the wording is what the harness's process_docs makes of it.
TEST_F(TasksTest, HellaswagInItsAuthorsFormIsWordedAsInTheHarness) {
  write(
      "hellaswag/validation.jsonl",
      R"({"ind": 4, "activity_label": "Cleaning", "ctx_a": "[header] How to wipe [title] Wet a cloth.",)"
      R"( "ctx_b": "tHE  man", "label": 1, "endings": ["stops.", " rubs [substeps] hard. "]})"
      "\n"
      R"({"activity_label": "Élan", "ctx_a": "He sits.", "ctx_b": "", "label": "0", "endings": ["a"]})");
  const auto questions = read("hellaswag");
  ASSERT_EQ(questions.size(), 2u);
  EXPECT_EQ(questions[0].prompt, "Cleaning: How to wipe. Wet a cloth. The man");
  EXPECT_EQ(questions[0].choices, (std::vector<std::string>{"stops.", "rubs hard."}));
  EXPECT_EQ(questions[0].answer, 1u);
  EXPECT_EQ(questions[1].prompt, "Élan: He sits.");
  EXPECT_EQ(questions[1].answer, 0u);
}

TEST_F(TasksTest, WrongTypesAreToldInWords) {
  for (const auto& [line, place] : std::vector<std::pair<std::string, std::string>>{
           {R"({"query": "a", "choices": "b", "gold": 0})", "choices: expected an array"},
           {R"({"query": "a", "choices": [1], "gold": 0})", "choices[0]: expected a string"},
           {R"({"query": "a", "choices": ["b"], "gold": -1})", "gold: expected an integer"},
           {R"({"ctx_a": "a", "activity_label": null, "endings": []})", "\"activity_label\""},
           {R"({"ctx_a": "a", "activity_label": "b", "endings": ["c"], "label": ""})", "label"},
           {"[]", "expected an object"}}) {
    write("hellaswag/validation.jsonl", line);
    EXPECT_NE(refusal("hellaswag").find("line 1: "), std::string::npos) << refusal("hellaswag");
    EXPECT_NE(refusal("hellaswag").find(place), std::string::npos) << refusal("hellaswag");
    EXPECT_EQ(refusal("hellaswag").find("json.exception"), std::string::npos);
  }
  write("boolq/dev.jsonl", R"({"question": "is it", "answer": "perhaps", "passage": "It is."})");
  EXPECT_NE(refusal("boolq").find("answer: expected true or false"), std::string::npos);
}

TEST_F(TasksTest, RefusesWhatIsNotThereOrBroken) {
  EXPECT_THROW(find_task("taste"), c10::ValueError);
  EXPECT_THROW(read("boolq", {.fewshot = 1}), c10::ValueError);
  EXPECT_THROW(read("mmlu", {.fewshot = 3}), c10::ValueError);
  write("boolq/dev.jsonl",
        "{\"question\": \"is it\", \"answer\": \"True\", \"passage\": \"\"}\n{\n");
  EXPECT_NE(refusal("boolq").find("line 2"), std::string::npos) << refusal("boolq");
  write("hellaswag/validation.jsonl", R"({"query": "a", "choices": ["b"], "gold": 1})");
  EXPECT_NE(refusal("hellaswag").find("line 1"), std::string::npos);
  write("mmlu/test/anatomy_test.csv", "Bone?,1,2,3,4,D\nBone?,1,2,3,E\n");
  EXPECT_NE(refusal("mmlu").find("row 2"), std::string::npos);
  fs::remove_all(tmp / "mmlu");
  EXPECT_THROW(read("mmlu"), SystemError);
}

TEST(Tasks, ReadTheRealBenchmarks) {
  const fs::path data = test::data_dir() / "benchmarks";
  SCHMIDT_REQUIRE_PATH(data);
  EXPECT_EQ(find_task("mmlu").read(data, {.fewshot = 5}).size(), 14042u);
  EXPECT_EQ(find_task("hellaswag").read(data, {}).size(), 1919u);
  EXPECT_EQ(find_task("boolq").read(data, {}).size(), 3270u);
}

}  // namespace
}  // namespace schmidt::eval
