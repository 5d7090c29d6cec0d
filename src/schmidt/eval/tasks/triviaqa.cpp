#include "schmidt/eval/tasks/triviaqa.h"

#include <array>

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

constexpr std::array<std::string_view, 3> kStops = {"\n", ".", ","};

std::string extracted(std::string_view text) { return std::string(stripped(text)); }

std::string plain(std::string_view text) { return without_punctuation(lower(text)); }

bool matches(std::string_view found, std::string_view answer) {
  return plain(found) == plain(answer);
}

constexpr std::array<Extraction, 1> kExtractions = {{{"remove_whitespace", extracted, matches}}};

/// The question within "Question: ..\nAnswer:".
std::string question_in(const JsonView& context) {
  constexpr std::string_view kBefore = "Question: ", kAfter = "\nAnswer:";
  std::string_view text = context.string();
  if (text.size() < kBefore.size() + kAfter.size() || !text.starts_with(kBefore) ||
      !text.ends_with(kAfter)) {
    context.fail("expected \"Question: ..\\nAnswer:\", got other text");
  }
  text.remove_prefix(kBefore.size());
  text.remove_suffix(kAfter.size());
  return std::string(text);
}

Question question_of(const JsonView& line) {
  Question question;
  const auto context = line.find("context");
  const bool own_form = context && !line.find("question");
  // The harness adds a question mark even where one stands.
  question.prompt = asked((own_form ? question_in(*context) : line.at("question").string()) + "?");
  question.answers = strings(own_form ? line.at("aliases") : line.at("answer").at("aliases"));
  return question;
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"triviaqa", Split::kValidation, Split::kTrain, true, question_of}, data,
                    options);
}

}  // namespace

Task triviaqa() {
  return {.name = "triviaqa",
          .label = "TriviaQA, exact match",
          .version = 3.0,
          .asks = Asks::kText,
          .stops = kStops,
          .extractions = kExtractions,
          .read = read};
}

}  // namespace schmidt::eval
