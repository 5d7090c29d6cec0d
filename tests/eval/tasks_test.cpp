#include "schmidt/eval/tasks.h"

#include <functional>
#include <map>

#include <c10/util/Exception.h>
#include <fmt/format.h>
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
    return all_questions(find_task(task).read(tmp.path(), options));
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

// What the harness printed for such data, two worked examples before the last of two questions.
TEST_F(TasksTest, WorkedExamplesAreThoseThatTheHarnessDraws) {
  struct Case {
    const char* task;
    const char* asked;  // the split's file
    std::function<std::string(int)> line;
    std::string prompt;
  };
  const auto letter = [](int i) { return std::string(1, "ABC"[i % 3]); };
  const std::vector<Case> cases = {
      {"arc_easy", "test",
       [&](int i) {
         return fmt::format(R"({{"question": "Why {}?", "choices": {{"text": ["a", "b", "c"], )"
                            R"("label": ["A", "B", "C"]}}, "answerKey": "{}"}})",
                            i, letter(i));
       },
       "Question: Why 3?\nAnswer: a\n\nQuestion: Why 0?\nAnswer: a\n\nQuestion: Why 51?\nAnswer:"},
      {"piqa", "validation",
       [](int i) {
         return fmt::format(R"({{"goal": "Reach {}", "sol1": "walk", "sol2": "run", "label": {}}})",
                            i, i % 2);
       },
       "Question: Reach 0\nAnswer: walk\n\nQuestion: Reach 2\nAnswer: walk\n\n"
       "Question: Reach 51\nAnswer:"},
      {"winogrande", "validation",
       [](int i) {
         return fmt::format(R"({{"sentence": "Ann met Eve {} and _ said  hello. ", )"
                            R"("option1": "Ann", "option2": "Eve", "answer": "{}"}})",
                            i, i % 2 + 1);
       },
       "Ann met Eve 0 and Ann said  hello.\n\nAnn met Eve 2 and Ann said  hello.\n\n"
       "Ann met Eve 51 and Ann"},
      {"openbookqa", "test",
       [](int i) {
         return fmt::format(R"({{"question_stem": "The sun {} is", "choices": {{"text": ["hot", )"
                            R"("cold"], "label": ["A", "B"]}}, "answerKey": "{}"}})",
                            i, i % 2 == 0 ? "A" : " B");
       },
       "The sun 3 is cold\n\nThe sun 0 is hot\n\nThe sun 51 is"},
      {"triviaqa", "validation",
       [](int i) {
         return fmt::format(R"({{"question": "Who {0}?", "answer": {{"aliases": ["X{0}", "Y"]}}}})",
                            i);
       },
       "Question: Who 0??\nAnswer: X0\n\nQuestion: Who 2??\nAnswer: X2\n\n"
       "Question: Who 51??\nAnswer:"},
      {"gsm8k", "test",
       [](int i) {
         return fmt::format(R"({{"question": "How many {0}?", "answer": "{0} is\n#### {0}"}})", i);
       },
       "Question: How many 3?\nAnswer: 3 is\n#### 3\n\nQuestion: How many 0?\n"
       "Answer: 0 is\n#### 0\n\nQuestion: How many 51?\nAnswer:"},
      {"boolq", "validation",
       [](int i) {
         return fmt::format(R"({{"question": "is it {0}", "passage": "It is {0}.", "label": {1}}})",
                            i, i % 2);
       },
       "It is 0.\nQuestion: is it 0?\nAnswer: no\n\nIt is 2.\nQuestion: is it 2?\nAnswer: no\n\n"
       "It is 51.\nQuestion: is it 51?\nAnswer:"},
      {"hellaswag", "validation",
       [](int i) {
         return fmt::format(R"({{"ind": {0}, "activity_label": "Act", "ctx_a": "He {0}.", )"
                            R"("ctx_b": "she", "endings": ["sits.", "runs."], "label": "{1}"}})",
                            i, i % 2);
       },
       "Act: He 0. She sits.\n\nAct: He 2. She sits.\n\nAct: He 51. She"},
  };
  for (const Case& c : cases) {
    fs::remove_all(tmp / c.task);
    std::string train;
    for (int i = 0; i < 30; ++i) train += c.line(i) + "\n";
    write(fmt::format("{}/train.jsonl", c.task), train);
    write(fmt::format("{}/{}-00000-of-00001.jsonl", c.task, c.asked),
          c.line(50) + "\n" + c.line(51) + "\n");
    const auto questions = read(c.task, {.fewshot = 2});
    ASSERT_EQ(questions.size(), 2u) << c.task;
    EXPECT_EQ(questions[1].prompt_of(0), c.prompt) << c.task;
    EXPECT_THROW(read(c.task, {.fewshot = 31}), c10::ValueError) << c.task;
  }
  EXPECT_EQ(read("winogrande")[1].prompt_of(1), "Ann met Eve 51 and Eve");
  EXPECT_EQ(read("winogrande")[0].choices,
            (std::vector<std::string>{"said  hello.", "said  hello."}));
  EXPECT_EQ(read("openbookqa")[1].answer, 1u);
  EXPECT_EQ(read("arc_easy")[0].answer, 2u);
  EXPECT_EQ(read("triviaqa")[0].answers, (std::vector<std::string>{"X50", "Y"}));
  // gsm8k alone shows worked examples unasked.
  EXPECT_EQ(find_task("gsm8k").read(tmp.path(), {}).at(0).fewshot, 5);
  EXPECT_EQ(read("gsm8k", {.fewshot = 0})[0].prompt, "Question: How many 50?\nAnswer:");
}

// Printed by the harness for these files.
TEST_F(TasksTest, AQuestionIsNotAWorkedExampleOfItself) {
  const auto line = [](int i) {
    return fmt::format(R"({{"goal": "Reach {}", "sol1": "walk", "sol2": "run", "label": {}}})"
                       "\n",
                       i, i % 2);
  };
  std::string train;
  for (int i = 0; i < 30; ++i) train += line(i);
  write("piqa/train.jsonl", train);
  write("piqa/validation.jsonl", line(14) + line(0));
  const auto questions = read("piqa", {.fewshot = 2});
  EXPECT_EQ(questions[0].prompt,
            "Question: Reach 24\nAnswer: walk\n\nQuestion: Reach 3\nAnswer: run\n\n"
            "Question: Reach 14\nAnswer:");
  EXPECT_EQ(questions[1].prompt,
            "Question: Reach 2\nAnswer: walk\n\nQuestion: Reach 29\nAnswer: run\n\n"
            "Question: Reach 0\nAnswer:");
  // Where several are the question itself, others are drawn again.
  write("piqa/train.jsonl", line(0) + line(1) + line(0) + line(1) + line(0) + line(1));
  write("piqa/validation.jsonl", line(0));
  const std::string one = "Question: Reach 1\nAnswer: run\n\n";
  EXPECT_EQ(read("piqa", {.fewshot = 3})[0].prompt, one + one + one + "Question: Reach 0\nAnswer:");
}

// The harness printed: Once 3 upon a  time\n\nOnce 0 upon a  time\n\nOnce 1 upon a
TEST_F(TasksTest, TheLastWordOfAPassageIsWhatFollows) {
  std::string lines;
  for (int i = 0; i < 30; ++i) lines += fmt::format("{{\"text\": \"Once {} upon a time\"}}\n", i);
  write("lambada_openai/test.jsonl", lines);
  const auto questions = read("lambada_openai", {.limit = 2, .fewshot = 2});
  EXPECT_EQ(questions[1].prompt, "Once 3 upon a  time\n\nOnce 0 upon a  time\n\nOnce 1 upon a");
  EXPECT_EQ(questions[1].choices, (std::vector<std::string>{"time"}));
  EXPECT_EQ(find_task("lambada_openai").read(tmp.path(), {.limit = 2}).at(0).documents, 30);
  write("lambada_openai/test.jsonl", R"({"text": "Once"})");
  EXPECT_EQ(read("lambada_openai")[0].prompt, "");
}

TEST_F(TasksTest, TriviaOfOtherFormsAreWordedAlike) {
  write("triviaqa/sample.jsonl",
        R"({"context": "Question: Who?\nAnswer:", "answer": "A", "aliases": ["A", "B"]})");
  EXPECT_EQ(read("triviaqa")[0].prompt, "Question: Who??\nAnswer:");
  EXPECT_EQ(read("triviaqa")[0].answers, (std::vector<std::string>{"A", "B"}));
  write("triviaqa/sample.jsonl", R"({"context": "Who?", "aliases": ["A"]})");
  EXPECT_NE(refusal("triviaqa").find("context: expected \"Question: "), std::string::npos);
}

// A file named after another split holds no questions; one named after none does, if no file is
// named after the right split.
TEST_F(TasksTest, FilesAreToldByTheirSplit) {
  write("hellaswag/train.jsonl", R"({"query": "a", "choices": ["b"], "gold": 0})");
  EXPECT_EQ(read("hellaswag").size(), 2u);
  write("hellaswag/sample.jsonl", R"({"query": "a", "choices": ["b"], "gold": 0})");
  EXPECT_EQ(read("hellaswag").size(), 2u);
  fs::remove(tmp / "hellaswag/validation.jsonl");
  EXPECT_EQ(read("hellaswag").size(), 1u);
  fs::remove(tmp / "hellaswag/sample.jsonl");
  EXPECT_THROW(read("hellaswag"), SystemError);
  write("hellaswag/validation.jsonl", "\n\n");
  EXPECT_THROW(read("hellaswag"), FormatError);
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
  const auto count = [&](const char* task, const TaskOptions& options) {
    return all_questions(find_task(task).read(data, options)).size();
  };
  EXPECT_EQ(count("mmlu", {.fewshot = 5}), 14042u);
  EXPECT_EQ(count("hellaswag", {}), 1919u);
  EXPECT_EQ(count("boolq", {}), 3270u);
  EXPECT_EQ(count("triviaqa", {}), 3000u);
  EXPECT_EQ(count("gsm8k", {}), 1319u);
  std::map<std::string, int> subjects;
  for (const QuestionSet& set : find_task("mmlu").read(data, {})) ++subjects[set.category];
  EXPECT_EQ(subjects, (std::map<std::string, int>{{"mmlu_humanities", 13},
                                                  {"mmlu_other", 13},
                                                  {"mmlu_social_sciences", 12},
                                                  {"mmlu_stem", 19}}));
}

}  // namespace
}  // namespace schmidt::eval
