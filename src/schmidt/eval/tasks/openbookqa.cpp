#include "schmidt/eval/tasks/openbookqa.h"

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

Question question_of(const JsonView& line) {
  const JsonView choices = line.at("choices");
  const JsonView key = line.at("answerKey");
  return {line.at("question_stem").string(), strings(choices.at("text")),
          index_in(strings(choices.at("label")), stripped(key.string()), key)};
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"openbookqa", Split::kTest, Split::kTrain, false, question_of}, data, options);
}

}  // namespace

Task openbookqa() {
  return {.name = "openbookqa",
          .label = "OpenBookQA, accuracy by length",
          .version = 1.0,
          .asks = Asks::kChoice,
          .by_length = true,
          .read = read};
}

}  // namespace schmidt::eval
