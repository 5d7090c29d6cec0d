#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/eval/task.h"
#include "schmidt/text/json_view.h"

namespace schmidt::eval {

/// Files of a folder with that ending, by name. Throws SystemError if there are none,
/// c10::ValueError if what it holds are files of parquet.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& folder,
                                            std::string_view extension);

/// Throws c10::ValueError, which names what converts them, if a file of parquet lies in or below a
/// folder. One that cannot be listed is left to those who read it.
void refuse_parquet(const std::filesystem::path& folder);

/// A split of a data set, told by how its files' names begin: "train", "validation" (also
/// "valid" and "dev") or "test".
enum class Split { kTrain, kValidation, kTest };

/// A benchmark in files of JSON Lines, `data`/<name>/<split>*.jsonl.
struct LinesTask {
  std::string_view name;
  Split asked;  ///< where no file is named after a split, all files are of this one
  Split shown;  ///< the worked examples'
  /// Whether the harness draws one example more than it shows, to leave out the question
  /// itself: it does where it knows of no test split.
  bool draws_one_more;
  Question (*question)(const text::JsonView& line);
};

/// Its questions, one set; before each the worked examples that
/// random.Random(1234).sample draws for it. Throws as Task::read.
std::vector<QuestionSet> read_lines(const LinesTask& task, const std::filesystem::path& data,
                                    const TaskOptions& options, int64_t default_fewshot = 0);

/// A question with its right answer, as it stands before another one.
std::string worked_example(const Question& question);

/// Puts text before a question.
void put_before(Question& question, std::string_view text);

std::vector<std::string> strings(const text::JsonView& list);

/// A number, or its digits as a string.
size_t index_of(const text::JsonView& value);

/// The place of `value` in a list. Throws FormatError at `at`.
size_t index_in(const std::vector<std::string>& list, std::string_view value,
                const text::JsonView& at);

/// "Question: ..\nAnswer:".
std::string asked(std::string_view question);

}  // namespace schmidt::eval
