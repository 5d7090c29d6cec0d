#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "schmidt/cli/options.h"
#include "schmidt/pipeline/evaluate_tasks.h"

namespace schmidt::cli {

/// The options of eval that are about benchmarks.
struct TaskVerbOptions {
  pipeline::TaskRecipe recipe;
  std::string out;
  bool force = false;
};

void add_task_options(CLI::App& verb, TaskVerbOptions& options);

/// Asks the model, and the reference unless its path is empty, and prints the scores.
void run_tasks(const CommonOptions& common, const std::string& model, const std::string& reference,
               const TaskVerbOptions& options);

}  // namespace schmidt::cli
