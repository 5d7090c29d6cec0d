#include "schmidt/eval/tasks/boolq.h"

#include <fmt/format.h>

#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

bool is_yes(const JsonView& line) {
  if (const auto label = line.find("label")) {
    const size_t index = index_of(*label);
    if (index > 1) label->fail("expected 0 or 1, got another number");
    return index == 1;
  }
  const JsonView answer = line.at("answer");
  if (!answer.value().is_string()) return answer.boolean();
  const std::string& word = answer.string();
  if (word != "True" && word != "False" && word != "true" && word != "false") {
    answer.fail("expected true or false, got another word");
  }
  return word == "True" || word == "true";
}

Question question_of(const JsonView& line) {
  return {
      fmt::format("{}\n{}", line.at("passage").string(), asked(line.at("question").string() + "?")),
      {"no", "yes"},
      is_yes(line) ? size_t{1} : size_t{0}};
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"boolq", Split::kValidation, Split::kTrain, true, question_of}, data, options);
}

}  // namespace

Task boolq() {
  return {.name = "boolq",
          .label = "BoolQ, accuracy",
          .version = 2.0,
          .asks = Asks::kChoice,
          .read = read};
}

}  // namespace schmidt::eval
