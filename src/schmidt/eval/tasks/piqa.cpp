#include "schmidt/eval/tasks/piqa.h"

#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

Question question_of(const text::JsonView& line) {
  return {asked(line.at("goal").string()),
          {line.at("sol1").string(), line.at("sol2").string()},
          index_of(line.at("label"))};
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"piqa", Split::kValidation, Split::kTrain, true, question_of}, data, options);
}

}  // namespace

Task piqa() {
  return {.name = "piqa",
          .label = "PIQA, accuracy by length",
          .version = 1.0,
          .asks = Asks::kChoice,
          .by_length = true,
          .read = read};
}

}  // namespace schmidt::eval
