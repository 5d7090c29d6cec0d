#include "schmidt/eval/tasks/winogrande.h"

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

Question question_of(const text::JsonView& line) {
  const text::JsonView whole = line.at("sentence");
  const std::string& sentence = whole.string();
  const size_t gap = sentence.find('_');
  if (gap == std::string::npos) whole.fail("expected a gap \"_\", got none");
  const text::JsonView answer = line.at("answer");
  const size_t number = index_of(answer);
  if (number != 1 && number != 2) answer.fail("expected 1 or 2, got another number");
  const std::string end(stripped(std::string_view(sentence).substr(gap + 1)));
  Question question{"", {end, end}, number - 1};
  for (const char* option : {"option1", "option2"}) {
    question.prompts.push_back(sentence.substr(0, gap) + line.at(option).string());
  }
  return question;
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"winogrande", Split::kValidation, Split::kTrain, true, question_of}, data,
                    options);
}

}  // namespace

Task winogrande() {
  return {.name = "winogrande",
          .label = "WinoGrande, accuracy",
          .version = 1.0,
          .asks = Asks::kChoice,
          .read = read};
}

}  // namespace schmidt::eval
