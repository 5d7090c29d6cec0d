#include "schmidt/eval/task_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/eval/python_random.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/text/documents.h"
#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using text::JsonView;

constexpr uint64_t kFewshotSeed = 1234;  // the harness's default

struct SplitName {
  std::string_view beginning;
  Split split;
};
constexpr std::array<SplitName, 4> kSplitNames = {{{"train", Split::kTrain},
                                                   {"val", Split::kValidation},
                                                   {"dev", Split::kValidation},
                                                   {"test", Split::kTest}}};

const char* beginning_of(Split split) {
  return std::ranges::find(kSplitNames, split, &SplitName::split)->beginning.data();
}

const SplitName* split_name(const fs::path& file) {
  const std::string name = file.filename().string();
  const auto found = std::ranges::find_if(
      kSplitNames, [&](const SplitName& split) { return name.starts_with(split.beginning); });
  return found == kSplitNames.end() ? nullptr : &*found;
}

std::vector<fs::path> files_of_split(const fs::path& folder, Split split) {
  std::vector<fs::path> files = files_of(folder, ".jsonl");
  std::erase_if(files, [&](const fs::path& file) {
    const SplitName* name = split_name(file);
    return name == nullptr || name->split != split;
  });
  return files;
}

/// The files with a benchmark's questions: those of its split, or those of none.
std::vector<fs::path> files_with_questions(const fs::path& folder, Split split) {
  std::vector<fs::path> files = files_of_split(folder, split);
  if (!files.empty()) return files;
  files = files_of(folder, ".jsonl");
  std::erase_if(files, [](const fs::path& file) { return split_name(file) != nullptr; });
  if (files.empty()) throw SystemError("no file of questions in", folder, ENOENT);
  return files;
}

struct Line {
  Question question;
  json value;
};

/// Adds the lines of a file up to `limit` in all (0: no limit); -> how many it has.
int64_t read_file(const LinesTask& task, const fs::path& path, int64_t limit,
                  std::vector<Line>& lines) {
  const io::MappedFile file(path);
  std::string_view rest = file.bytes();
  if (!text::wide_encoding(rest).empty()) text::utf8_text(rest, path);
  if (rest.starts_with(text::kByteOrderMark)) rest.remove_prefix(text::kByteOrderMark.size());
  int64_t count = 0;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (text::is_blank_line(line)) continue;
    ++count;
    if (limit > 0 && std::cmp_greater_equal(lines.size(), limit)) continue;
    const std::string where = fmt::format("line {}", number);
    json value = text::parse_json_line(line, path, where);
    Question question;
    text::with_place(path, where, [&] { question = task.question(JsonView(value, path)); });
    const size_t choices = question.choices.size();
    if (choices == 0 ? question.answers.empty() : question.answer >= choices) {
      throw FormatError(path, where, "expected a question with its right answer");
    }
    lines.push_back({std::move(question), std::move(value)});
  }
  return count;
}

/// Worked examples, drawn anew for each question.
class Examples {
 public:
  Examples(const LinesTask& task, const fs::path& folder, int64_t count)
      : draws_one_more_(task.draws_one_more), count_(static_cast<size_t>(count)) {
    if (count == 0) return;
    const std::vector<fs::path> files = task.shown == task.asked
                                            ? files_with_questions(folder, task.shown)
                                            : files_of_split(folder, task.shown);
    for (const fs::path& file : files) read_file(task, file, 0, pool_);
    const size_t drawn = count_ + (draws_one_more_ ? 1 : 0);
    TORCH_CHECK_VALUE(!files.empty(), "[fewshot] expected 0: ", folder.string(),
                      " comes without worked examples, a file ", beginning_of(task.shown),
                      "*.jsonl, got ", count);
    TORCH_CHECK_VALUE(drawn <= pool_.size(), "[fewshot] expected 0 to ",
                      pool_.size() - std::min(pool_.size(), drawn - count_), " worked examples of ",
                      std::string(task.name), ", got ", count);
  }

  std::string before(const json& document) {
    std::string text;
    if (count_ == 0) return text;
    for (const size_t i : draw(document)) text += worked_example(pool_[i].question);
    return text;
  }

 private:
  std::vector<size_t> draw(const json& document) {
    if (!draws_one_more_) return random_.sample(pool_.size(), count_);
    const auto is_itself = [&](size_t i) { return pool_[i].value == document; };
    std::vector<size_t> drawn = random_.sample(pool_.size(), count_ + 1);
    std::erase_if(drawn, is_itself);
    if (drawn.size() < count_) {
      std::vector<size_t> others;
      for (size_t i = 0; i < pool_.size(); ++i) {
        if (!is_itself(i)) others.push_back(i);
      }
      drawn.clear();
      for (const size_t i : random_.sample(others.size(), count_)) drawn.push_back(others[i]);
    }
    drawn.resize(count_);
    return drawn;
  }

  bool draws_one_more_;
  size_t count_;
  std::vector<Line> pool_;
  PythonRandom random_{kFewshotSeed};
};

}  // namespace

std::vector<fs::path> files_of(const fs::path& folder, std::string_view extension) {
  std::vector<fs::path> files = folder_entries(folder);
  std::erase_if(files, [&](const fs::path& file) { return file.extension() != extension; });
  if (files.empty()) {
    refuse_parquet(folder);
    throw SystemError("no benchmark file in", folder, ENOENT);
  }
  return files;
}

void refuse_parquet(const fs::path& folder) {
  std::error_code absent;
  fs::recursive_directory_iterator entry(folder, absent);
  for (; !absent && entry != fs::recursive_directory_iterator(); entry.increment(absent)) {
    TORCH_CHECK_VALUE(
        entry->path().extension() != ".parquet",
        "[tasks] expected files of JSON Lines or csv, found parquet: ", entry->path().string(),
        "; python/parquet_to_jsonl.py turns a folder of such files into them");
  }
}

std::string worked_example(const Question& question) {
  const std::string& answer =
      question.answers.empty() ? question.choices[question.answer] : question.answers.front();
  const std::string& prompt = question.prompt_of(question.answer);
  return answer.empty() ? prompt : prompt + " " + answer + "\n\n";
}

void put_before(Question& question, std::string_view text) {
  question.prompt.insert(0, text);
  for (std::string& prompt : question.prompts) prompt.insert(0, text);
}

std::vector<QuestionSet> read_lines(const LinesTask& task, const fs::path& data,
                                    const TaskOptions& options, int64_t default_fewshot) {
  const fs::path folder = data / task.name;
  QuestionSet set{.name = std::string(task.name), .alias = std::string(task.name)};
  set.fewshot = options.fewshot.value_or(default_fewshot);
  TORCH_CHECK_VALUE(set.fewshot >= 0, "[fewshot] expected 0 worked examples or more, got ",
                    set.fewshot);
  std::vector<Line> lines;
  const std::vector<fs::path> files = files_with_questions(folder, task.asked);
  for (const fs::path& file : files) {
    set.documents += read_file(task, file, options.limit, lines);
  }
  if (lines.empty()) throw FormatError(files.front(), "line 1", "expected a question, found none");
  Examples examples(task, folder, set.fewshot);
  for (Line& line : lines) {
    put_before(line.question, examples.before(line.value));
    set.questions.push_back(std::move(line.question));
  }
  return {std::move(set)};
}

std::vector<std::string> strings(const JsonView& list) {
  std::vector<std::string> all;
  for (const JsonView& item : list.items()) all.push_back(item.string());
  return all;
}

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

size_t index_in(const std::vector<std::string>& list, std::string_view value, const JsonView& at) {
  const auto found = std::ranges::find(list, value);
  if (found == list.end()) at.fail("expected one of the labels, got other text");
  return static_cast<size_t>(found - list.begin());
}

std::string asked(std::string_view question) {
  return fmt::format("Question: {}\nAnswer:", question);
}

}  // namespace schmidt::eval
