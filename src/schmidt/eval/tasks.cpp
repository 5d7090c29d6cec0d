#include "schmidt/eval/tasks.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/named.h"
#include "schmidt/io/csv.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/text/capitalized.h"
#include "schmidt/text/documents.h"
#include "schmidt/text/json_view.h"
#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using text::JsonView;

/// Files of a folder with that ending, by name.
std::vector<fs::path> files_of(const fs::path& folder, std::string_view extension) {
  std::vector<fs::path> files = folder_entries(folder);
  std::erase_if(files, [&](const fs::path& file) { return file.extension() != extension; });
  if (files.empty()) throw SystemError("no benchmark file in", folder, ENOENT);
  return files;
}

bool reached(const std::vector<Question>& questions, size_t before, int64_t limit) {
  return limit > 0 && questions.size() - before >= static_cast<size_t>(limit);
}

/// JSON Lines: `of` makes a question of a line.
std::vector<Question> read_lines(const fs::path& folder, const TaskOptions& options,
                                 std::string_view task, Question (*of)(const JsonView& line)) {
  TORCH_CHECK_VALUE(options.fewshot == 0, "[fewshot] expected 0: ", std::string(task),
                    " comes without worked examples, got ", options.fewshot);
  std::vector<Question> questions;
  for (const fs::path& path : files_of(folder, ".jsonl")) {
    const io::MappedFile file(path);
    const size_t before = questions.size();
    std::string_view rest = file.bytes();
    if (!text::wide_encoding(rest).empty()) text::utf8_text(rest, path);
    if (rest.starts_with(text::kByteOrderMark)) rest.remove_prefix(text::kByteOrderMark.size());
    for (int64_t number = 1; !rest.empty() && !reached(questions, before, options.limit);
         ++number) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (text::is_blank_line(line)) continue;
      const std::string where = fmt::format("line {}", number);
      const json value = text::parse_json_line(line, path, where);
      text::with_place(path, where, [&] { questions.push_back(of(JsonView(value, path))); });
      const Question& question = questions.back();
      if (question.prompt.empty() || question.answer >= question.choices.size()) {
        throw FormatError(path, where, "expected a question with its right answer");
      }
    }
  }
  return questions;
}

std::string stripped(std::string_view text) {
  constexpr const char* kSpace = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

/// A row of question, four answers and the right one's letter.
Question mmlu_question(const std::vector<std::string>& row, const fs::path& path, size_t number) {
  const bool whole = row.size() == 6 && row[5].size() == 1 && row[5][0] >= 'A' && row[5][0] <= 'D';
  if (!whole) {
    throw FormatError(path, fmt::format("row {}", number),
                      "expected a question, four answers and a letter of A to D");
  }
  return {fmt::format("{}\nA. {}\nB. {}\nC. {}\nD. {}\nAnswer:", stripped(row[0]), row[1], row[2],
                      row[3], row[4]),
          {"A", "B", "C", "D"},
          static_cast<size_t>(row[5][0] - 'A')};
}

std::vector<Question> mmlu_file(const fs::path& path) {
  const io::MappedFile file(path);
  std::vector<Question> questions;
  for (const auto& row : io::parse_csv(text::utf8_text(file.bytes(), path), path)) {
    questions.push_back(mmlu_question(row, path, questions.size() + 1));
  }
  return questions;
}

/// test/<subject>_test.csv with worked examples from dev/<subject>_dev.csv.
std::vector<Question> read_mmlu(const fs::path& data, const TaskOptions& options) {
  const fs::path folder = data / "mmlu";
  std::vector<Question> questions;
  for (const fs::path& path : files_of(folder / "test", ".csv")) {
    std::string subject = path.stem().string();
    if (subject.ends_with("_test")) subject.resize(subject.size() - 5);
    std::vector<Question> examples;
    if (options.fewshot > 0) examples = mmlu_file(folder / "dev" / (subject + "_dev.csv"));
    TORCH_CHECK_VALUE(options.fewshot >= 0 && std::cmp_less_equal(options.fewshot, examples.size()),
                      "[fewshot] expected 0 to ", examples.size(), " worked examples of ", subject,
                      ", got ", options.fewshot);
    std::replace(subject.begin(), subject.end(), '_', ' ');
    std::string opening = fmt::format(
        "The following are multiple choice questions (with answers) about {}.\n\n", subject);
    for (int64_t i = 0; i < options.fewshot; ++i) {
      const Question& example = examples[static_cast<size_t>(i)];
      opening += fmt::format("{} {}\n\n", example.prompt, example.choices[example.answer]);
    }
    const size_t before = questions.size();
    for (Question& question : mmlu_file(path)) {
      if (reached(questions, before, options.limit)) break;
      question.prompt.insert(0, opening);
      questions.push_back(std::move(question));
    }
  }
  return questions;
}

std::vector<std::string> strings(const JsonView& list) {
  std::vector<std::string> all;
  for (const JsonView& item : list.items()) all.push_back(item.string());
  return all;
}

/// A number, or its digits as a string.
size_t index_of(const JsonView& value) {
  if (!value.value().is_string()) return static_cast<size_t>(value.integer());
  const std::string& digits = value.string();
  size_t index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    value.fail("expected the number of the right answer, got other text");
  }
  return index;
}

/// What the harness makes of WikiHow's texts, which mark titles and steps with brackets.
std::string without_brackets(std::string_view raw) {
  const auto replaced = [](std::string_view text, std::string_view old, std::string_view by) {
    std::string result;
    while (true) {
      const size_t found = text.find(old);
      result += text.substr(0, found);
      if (found == std::string_view::npos) return result;
      result += by;
      text.remove_prefix(found + old.size());
    }
  };
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

/// A line of the harness's own form, or of the one that HellaSwag's authors publish.
/// Source: lm-evaluation-harness 0.4.13, tasks/hellaswag/utils.py.
Question hellaswag_question(const JsonView& line) {
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

Question boolq_question(const JsonView& line) {
  const JsonView answer = line.at("answer");
  const bool is_word = answer.value().is_string();
  const std::string word = is_word ? answer.string() : "";
  if (is_word && word != "True" && word != "False" && word != "true" && word != "false") {
    answer.fail("expected true or false, got another word");
  }
  const bool yes = is_word ? word == "True" || word == "true" : answer.boolean();
  return {fmt::format("{}\nQuestion: {}?\nAnswer:", line.at("passage").string(),
                      line.at("question").string()),
          {"no", "yes"},
          yes ? size_t{1} : size_t{0}};
}

std::vector<Question> read_hellaswag(const fs::path& data, const TaskOptions& options) {
  return read_lines(data / "hellaswag", options, "hellaswag", hellaswag_question);
}

std::vector<Question> read_boolq(const fs::path& data, const TaskOptions& options) {
  return read_lines(data / "boolq", options, "boolq", boolq_question);
}

constexpr std::array<Task, 3> kTasks = {{
    {"mmlu", "MMLU, accuracy", false, read_mmlu},
    {"hellaswag", "HellaSwag, accuracy by length", true, read_hellaswag},
    {"boolq", "BoolQ, accuracy", false, read_boolq},
}};

}  // namespace

std::span<const Task> tasks() { return kTasks; }

const Task& find_task(std::string_view name) { return find_named(kTasks, name, "task"); }

}  // namespace schmidt::eval
