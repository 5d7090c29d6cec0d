#include "schmidt/eval/tasks/lambada.h"

#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

Question question_of(const text::JsonView& line) {
  const std::string& text = line.at("text").string();
  const size_t space = text.rfind(' ');
  const bool one_word = space == std::string::npos;
  const std::string word = one_word ? text : text.substr(space + 1);
  Question question{one_word ? "" : text.substr(0, space), {word}, 0};
  // In a worked example the harness puts a second space before it.
  question.answers = {" " + word};
  return question;
}

std::vector<QuestionSet> read_openai(const std::filesystem::path& data,
                                     const TaskOptions& options) {
  return read_lines({"lambada_openai", Split::kTest, Split::kTest, false, question_of}, data,
                    options);
}

std::vector<QuestionSet> read_standard(const std::filesystem::path& data,
                                       const TaskOptions& options) {
  return read_lines({"lambada_standard", Split::kTest, Split::kValidation, false, question_of},
                    data, options);
}

}  // namespace

Task lambada_openai() {
  return {.name = "lambada_openai",
          .label = "LAMBADA of OpenAI",
          .version = 1.0,
          .asks = Asks::kWord,
          .read = read_openai};
}

Task lambada_standard() {
  Task task = lambada_openai();
  task.name = "lambada_standard";
  task.label = "LAMBADA";
  task.read = read_standard;
  return task;
}

}  // namespace schmidt::eval
