#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::eval {

/// A question with its possible or its right answers, worded as lm-evaluation-harness does.
struct Question {
  std::string prompt;                ///< worked examples, then the question: "..\nAnswer:"
  std::vector<std::string> choices;  ///< each follows the prompt after one space
  size_t answer = 0;                 ///< the right one's index
  /// A prompt of each choice instead of `prompt`, where the choice stands in it.
  std::vector<std::string> prompts = {};
  /// Where a text is asked for: any of them is right, the first is shown in worked examples.
  std::vector<std::string> answers = {};

  const std::string& prompt_of(size_t choice) const {
    return prompts.empty() ? prompt : prompts[choice];
  }
  bool operator==(const Question&) const = default;
};

/// Questions whose scores are averaged: a benchmark's, or those of one subject of MMLU.
struct QuestionSet {
  std::string name;       ///< "mmlu_anatomy"
  std::string alias;      ///< what a table calls it: "anatomy"
  std::string category;   ///< "mmlu_stem"; empty where there are none
  int64_t fewshot = 0;    ///< worked examples before each question
  int64_t documents = 0;  ///< questions of the file, whatever the limit
  std::vector<Question> questions;
};

struct TaskOptions {
  int64_t limit = 0;                    ///< the first so many questions of each set; 0: all
  std::optional<int64_t> fewshot = {};  ///< worked examples; none: as many as the task has
};

/// What a question asks of a model, and how its answer counts.
enum class Asks {
  kChoice,  ///< the likeliest choice: acc, and acc_norm, by its log-likelihood a character
  kWord,    ///< one choice alone, the text's last word: perplexity, and acc if it is the likeliest
  kText,    ///< a text, greedily: exact_match of what is extracted from it
};

/// How a generated text is compared with a right answer.
struct Extraction {
  std::string_view name;  ///< the harness's filter: "strict-match"
  std::string (*extract)(std::string_view text);
  bool (*matches)(std::string_view extracted, std::string_view answer);
};

/// A benchmark: a file pair of eval/tasks and a line of the table in eval/tasks.cpp.
struct Task {
  std::string_view name;
  std::string_view label;  ///< of an axis
  double version;          ///< of its wording in the harness
  Asks asks;
  bool by_length = false;  ///< kChoice: acc_norm counts too
  int64_t fewshot = 0;     ///< worked examples unless another number is asked for
  std::span<const std::string_view> stops = {};  ///< kText: end a text, and are not part of it
  std::span<const Extraction> extractions = {};  ///< kText
  /// From `data`/<name>. Throws c10::ValueError for more worked examples than there are;
  /// FormatError naming file and line; SystemError for a file or folder that is not there.
  std::vector<QuestionSet> (*read)(const std::filesystem::path& data, const TaskOptions& options);
};

}  // namespace schmidt::eval
