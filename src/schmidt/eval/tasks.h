#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::eval {

/// A question with its possible answers, worded as lm-evaluation-harness does.
struct Question {
  std::string prompt;                ///< worked examples, then the question: "..\nAnswer:"
  std::vector<std::string> choices;  ///< each follows the prompt after one space
  size_t answer = 0;                 ///< the right one's index
};

struct TaskOptions {
  int64_t limit = 0;    ///< the first so many questions of each file; 0: all
  int64_t fewshot = 0;  ///< worked examples before each question, where the task has some
};

/// A multiple-choice benchmark. A new one is a function and a line of the table.
struct Task {
  std::string_view name;
  std::string_view label;  ///< of an axis
  bool by_length;          ///< log-likelihoods count for each character (the harness's acc_norm)
  /// From `data`/<name>. Throws c10::ValueError for more worked examples than there are;
  /// FormatError naming file and line; SystemError for a file or folder that is not there.
  std::vector<Question> (*read)(const std::filesystem::path& data, const TaskOptions& options);
};

/// Source of the wording: lm-evaluation-harness 0.4.13, mmlu 1.0, hellaswag 1.0, boolq 2.0.
std::span<const Task> tasks();

/// Throws c10::ValueError, naming those that exist.
const Task& find_task(std::string_view name);

}  // namespace schmidt::eval
