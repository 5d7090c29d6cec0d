#include "schmidt/eval/tasks/hellaswag.h"

#include <fmt/format.h>

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"
#include "schmidt/text/capitalized.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

/// What the harness makes of WikiHow's texts, which mark titles and steps with brackets.
std::string without_brackets(std::string_view raw) {
  std::string text = replaced(stripped(raw), " [title]", ". ");
  for (size_t at = 0; (at = text.find('[', at)) != text.npos;) {
    const size_t end = text.find_first_of("]\n", at);
    if (end == text.npos || text[end] == '\n') {
      ++at;
    } else {
      text.erase(at, end + 1 - at);
    }
  }
  return replaced(text, "  ", " ");
}

Question question_of(const JsonView& line) {
  if (line.find("query") || !line.find("ctx_a")) {
    return {line.at("query").string(), strings(line.at("choices")), index_of(line.at("gold"))};
  }
  // Some contexts end with their first sentence.
  const std::string context =
      fmt::format("{}: {} {}", line.at("activity_label").string(), line.at("ctx_a").string(),
                  text::capitalized(line.string_or("ctx_b", "")));
  Question question{without_brackets(context), strings(line.at("endings")),
                    index_of(line.at("label"))};
  for (std::string& ending : question.choices) ending = without_brackets(ending);
  return question;
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"hellaswag", Split::kValidation, Split::kTrain, true, question_of}, data,
                    options);
}

}  // namespace

Task hellaswag() {
  return {.name = "hellaswag",
          .label = "HellaSwag, accuracy by length",
          .version = 1.0,
          .asks = Asks::kChoice,
          .by_length = true,
          .read = read};
}

}  // namespace schmidt::eval
