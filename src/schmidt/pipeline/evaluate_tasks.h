#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/eval/task_report.h"
#include "schmidt/eval/tasks.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"

namespace schmidt::pipeline {

/// All that decides what is measured.
struct TaskRecipe {
  std::vector<std::string> tasks;  ///< names of eval::tasks
  std::filesystem::path data;      ///< the folder that holds them
  eval::TaskOptions questions;
};

/// Where it is measured, which decides nothing but rounding.
struct TaskRun {
  /// A .json file for results and every response; finished questions are kept in OUT.partial, so
  /// that a killed run goes on. None: nothing is written.
  std::optional<std::filesystem::path> out;
  bool force = false;  ///< replace the file, and drop unfinished work there
  model::LoadOptions load;
};

/// Asks a model, and perhaps a reference, the questions of benchmarks. All mistakes that can be
/// known are found before a model is loaded; only one model is in memory at a time. The ranks of
/// mpirun call it together and share the questions; all return the same, rank 0 writes.
/// Throws c10::ValueError for a recipe that does not fit, FormatError for broken data, SystemError.
std::vector<eval::TaskResult> evaluate_tasks(const io::Checkpoint& model,
                                             const io::Checkpoint* reference,
                                             const TaskRecipe& recipe, const TaskRun& run,
                                             const Reporter& reporter);

}  // namespace schmidt::pipeline
