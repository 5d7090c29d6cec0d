#include "schmidt/cli/eval_tasks.h"

#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "schmidt/base/kept_memory.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::cli {
namespace {

std::string error_of(const eval::Estimate& estimate) {
  return estimate.standard_error ? fmt::format("{:.4f}", *estimate.standard_error) : "";
}

/// As deep as its group is: "mmlu", " - stem", "  - anatomy".
std::string label_of(const eval::SetScores& scores, std::string_view task) {
  if (scores.group.empty()) return scores.alias;
  return (scores.group == task ? " - " : "  - ") + scores.alias;
}

void print_table(const std::vector<eval::TaskResult>& results) {
  const bool compared = !results.front().reference.empty();
  Table table;
  table.header = {"task", "shots", "questions", "metric", "value", "+-"};
  if (compared) table.header.insert(table.header.end(), {"reference", "+-", "recovery %"});
  for (const eval::TaskResult& result : results) {
    const std::vector<eval::Metric> metrics = eval::metrics_of(*result.task);
    for (size_t s = 0; s < result.scores.size(); ++s) {
      const eval::SetScores& scores = result.scores[s];
      for (size_t m = 0; m < metrics.size(); ++m) {
        const eval::Estimate& estimate = scores.estimates[m];
        const eval::Metric& metric = metrics[m];
        std::vector<std::string> row = {
            label_of(scores, result.task->name),
            std::to_string(scores.fewshot),
            std::to_string(scores.asked),
            metric.filter == "none" ? metric.name : metric.name + ", " + metric.filter,
            fmt::format("{:.4f}", estimate.value),
            error_of(estimate)};
        if (compared) {
          const eval::Estimate& reference = result.reference[s].estimates[m];
          const auto share = eval::recovery(metric, estimate, reference);
          row.insert(row.end(), {fmt::format("{:.4f}", reference.value), error_of(reference),
                                 share ? fmt::format("{:.1f}", *share) : ""});
        }
        table.rows.push_back(std::move(row));
      }
    }
  }
  fmt::print("{}", table.aligned());
}

}  // namespace

void add_task_options(CLI::App& verb, TaskVerbOptions& options) {
  std::vector<std::string> names;
  for (const eval::Task& task : eval::tasks()) names.emplace_back(task.name);
  verb.add_option("--tasks", options.recipe.tasks, "Instead of --text: benchmarks")
      ->delimiter(',')
      ->check(named(names));
  verb.add_option("--data", options.recipe.data,
                  "Folder of the benchmarks: DATA/mmlu, DATA/hellaswag, ..")
      ->type_name(kFolderValue);
  verb.add_option("--limit", options.recipe.questions.limit,
                  "Only the first N questions of each task, of each subject of mmlu")
      ->check(kPositive);
  verb.add_option("--fewshot", options.recipe.questions.fewshot,
                  "Worked examples before each question (default: 5 of gsm8k, 0 of others)")
      ->check(kNonNegative);
  verb.add_option("-o,--out", options.out,
                  "A .json file for scores and every answer; a killed run goes on from it")
      ->type_name(kFileValue);
  verb.add_flag("--force", options.force, "Replace the file, and drop unfinished work there");
}

void run_tasks(const CommonOptions& common, const std::string& model, const std::string& reference,
               const TaskVerbOptions& options) {
  apply_common_options(common);
  keep_freed_memory();  // every group of questions takes the same large blocks
  TORCH_CHECK_VALUE(!options.recipe.data.empty(),
                    "[eval] expected --data, the folder that holds the benchmarks");
  const io::Checkpoint checkpoint = open_checkpoint(model, common);
  std::optional<io::Checkpoint> other;
  if (!reference.empty()) other.emplace(open_checkpoint(reference, common));
  pipeline::TaskRun run{.force = options.force,
                        .load = {common.torch_dtype(torch::kFloat32), common.torch_device()}};
  if (!options.out.empty()) run.out = options.out;
  ProgressLine progress(common.quiet || parallel::rank() != 0);
  const auto results = pipeline::evaluate_tasks(checkpoint, other ? &*other : nullptr,
                                                options.recipe, run, progress.reporter());
  progress.clear();
  if (parallel::rank() != 0) return;
  if (!common.json) {
    print_table(results);
    return;
  }
  nlohmann::ordered_json out = eval::results_json(results);
  out["config"] = {{"model", model}};
  if (!reference.empty()) out["config"]["reference"] = reference;
  fmt::print("{}\n", io::json_text(out));
}

}  // namespace schmidt::cli
