#include "schmidt/eval/tasks/gsm8k.h"

#include <array>

#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"
#include "schmidt/text/regex.h"

namespace schmidt::eval {
namespace {

using text::JsonView;

constexpr std::array<std::string_view, 3> kStops = {"Question:", "</s>", "<|im_end|>"};
constexpr int64_t kFewshot = 5;
constexpr std::string_view kMark = "#### ";

constexpr const char* kNone = "[invalid]";

/// What follows the first mark that a number follows.
std::string strict(std::string_view text) {
  static const text::Regex kNumber("#### (-?[0-9.,]+)");
  const auto found = kNumber.find_all(text);
  if (found.empty()) return kNone;
  const size_t begin = found.front().begin + kMark.size();
  return std::string(text.substr(begin, found.front().end - begin));
}

/// The last number.
std::string flexible(std::string_view text) {
  static const text::Regex kNumber("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  const auto found = kNumber.find_all(text);
  if (found.empty()) return kNone;
  return std::string(text.substr(found.back().begin, found.back().end - found.back().begin));
}

/// Without commas and dollars, all up to the last mark and a full stop at the end.
std::string plain(std::string_view text) {
  std::string result = replaced(replaced(text, ",", ""), "$", "");
  if (const size_t mark = result.rfind(kMark); mark != std::string::npos) {
    result.erase(0, mark + kMark.size());
  }
  const size_t last = result.ends_with('\n') ? result.size() - 1 : result.size();
  if (last > 0 && result[last - 1] == '.') result.erase(last - 1, 1);
  return lower(result);
}

bool matches(std::string_view found, std::string_view answer) {
  return plain(found) == plain(answer);
}

constexpr std::array<Extraction, 2> kExtractions = {
    {{"strict-match", strict, matches}, {"flexible-extract", flexible, matches}}};

Question question_of(const JsonView& line) {
  Question question;
  question.prompt = asked(line.at("question").string());
  question.answers = {line.at("answer").string()};
  return question;
}

std::vector<QuestionSet> read(const std::filesystem::path& data, const TaskOptions& options) {
  return read_lines({"gsm8k", Split::kTest, Split::kTrain, false, question_of}, data, options,
                    kFewshot);
}

}  // namespace

Task gsm8k() {
  return {.name = "gsm8k",
          .label = "GSM8K, exact match",
          .version = 3.0,
          .asks = Asks::kText,
          .fewshot = kFewshot,
          .stops = kStops,
          .extractions = kExtractions,
          .read = read};
}

}  // namespace schmidt::eval
