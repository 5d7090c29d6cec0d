#include "schmidt/eval/tasks/arc.h"

#include <utility>

#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

Question question_of(const JsonView& line) {
  const JsonView choices = line.at("choices");
  const JsonView key = line.at("answerKey");
  return {asked(line.at("question").string()), strings(choices.at("text")),
          index_in(strings(choices.at("label")), key.string(), key)};
}

std::vector<QuestionSet> read_easy(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"arc_easy", Split::kTest, Split::kTrain, false, question_of}, data, options);
}

std::vector<QuestionSet> read_challenge(const std::filesystem::path& data,
                                        const TaskOptions& options) {
  return read_lines({"arc_challenge", Split::kTest, Split::kTrain, false, question_of}, data,
                    options);
}

}  // namespace

Task arc_easy() {
  return {.name = "arc_easy",
          .label = "ARC easy, accuracy by length",
          .version = 1.0,
          .asks = Asks::kChoice,
          .by_length = true,
          .read = read_easy};
}

Task arc_challenge() {
  Task task = arc_easy();
  task.name = "arc_challenge";
  task.label = "ARC challenge, accuracy by length";
  task.read = read_challenge;
  return task;
}

}  // namespace schmidt::eval
