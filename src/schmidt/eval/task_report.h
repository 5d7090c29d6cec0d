#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/eval/scores.h"

namespace schmidt::eval {

/// What a model has answered to a benchmark, and perhaps another one beside it.
struct TaskResult {
  const Task* task = nullptr;
  std::vector<QuestionSet> sets;
  std::vector<std::vector<Response>> responses;  ///< [sets][questions]
  std::vector<SetScores> scores;
  std::vector<SetScores> reference;  ///< of the same sets; empty where there is none
};

/// "acc,none" and "acc_stderr,none".
std::string key_of(const Metric& metric);
std::string error_key_of(const Metric& metric);

/// The share of a reference's score that is left, in per cent; of one that is better lower, the
/// reference's over the model's. None where that has no value.
std::optional<double> recovery(const Metric& metric, const Estimate& model,
                               const Estimate& reference);

/// In the shape of lm-evaluation-harness: results, groups, group_subtasks, versions, n-shot,
/// higher_is_better, n-samples; beside them reference (results of it) and recovery where there is
/// one.
nlohmann::ordered_json results_json(const std::vector<TaskResult>& results);

/// Each question's response and scores, by set.
nlohmann::ordered_json samples_json(const std::vector<TaskResult>& results);

/// A response as a run keeps it; what is not finite comes back as NaN.
nlohmann::ordered_json response_json(const Response& response);
/// Throws nlohmann::json::exception for another form.
Response response_of(const nlohmann::ordered_json& json);

}  // namespace schmidt::eval
