#include "schmidt/eval/tasks.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/named.h"
#include "schmidt/io/csv.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/text/documents.h"
#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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

/// JSON Lines: `of` makes a question of a line and may throw json::exception.
std::vector<Question> read_lines(const fs::path& folder, const TaskOptions& options,
                                 std::string_view task, Question (*of)(const json& line)) {
  TORCH_CHECK_VALUE(options.fewshot == 0, "[fewshot] expected 0: ", std::string(task),
                    " comes without worked examples, got ", options.fewshot);
  std::vector<Question> questions;
  for (const fs::path& path : files_of(folder, ".jsonl")) {
    const io::MappedFile file(path);
    const size_t before = questions.size();
    std::string_view rest = file.bytes();
    for (int64_t number = 1; !rest.empty() && !reached(questions, before, options.limit);
         ++number) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (text::is_blank_line(line)) continue;
      const std::string where = fmt::format("line {}", number);
      try {
        questions.push_back(of(text::parse_json_line(line, path, where)));
      } catch (const json::exception& e) {
        throw FormatError(path, where, e.what());
      }
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
  if (!text::is_valid_utf8(file.bytes())) throw FormatError(path, "text", "expected UTF-8");
  std::vector<Question> questions;
  for (const auto& row : io::parse_csv(file.bytes(), path)) {
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

std::vector<Question> read_hellaswag(const fs::path& data, const TaskOptions& options) {
  return read_lines(data / "hellaswag", options, "hellaswag", [](const json& line) -> Question {
    return {line.at("query").get<std::string>(), line.at("choices").get<std::vector<std::string>>(),
            line.at("gold").get<size_t>()};
  });
}

std::vector<Question> read_boolq(const fs::path& data, const TaskOptions& options) {
  return read_lines(data / "boolq", options, "boolq", [](const json& line) -> Question {
    const json& answer = line.at("answer");
    const bool yes = answer.is_boolean() ? answer.get<bool>() : answer.get<std::string>() == "True";
    return {fmt::format("{}\nQuestion: {}?\nAnswer:", line.at("passage").get<std::string>(),
                        line.at("question").get<std::string>()),
            {"no", "yes"},
            yes ? size_t{1} : size_t{0}};
  });
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
