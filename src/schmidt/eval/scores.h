#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// What a model says to a question.
struct Response {
  std::vector<double> log_likelihoods;  ///< of each choice, nats
  bool likeliest = false;               ///< Asks::kWord: each token of it is the likeliest one
  std::string text;                     ///< Asks::kText
};

/// A score as the harness calls it: {"exact_match", "strict-match"}.
struct Metric {
  std::string name;
  std::string filter = "none";
  bool higher_is_better = true;
};

/// What a task's responses are scored by, in the order of `scores_of`.
std::vector<Metric> metrics_of(const Task& task);

/// A value for each metric: 1 or 0, or, for perplexity, the log-likelihood.
std::vector<double> scores_of(const Task& task, const Question& question, const Response& response);

/// The place of the largest log-likelihood, or of the largest one a character; of several the
/// first.
size_t likeliest_choice(const Question& question, std::span<const double> log_likelihoods,
                        bool by_length);

/// A mean over questions with its standard error, which one question alone does not give.
struct Estimate {
  double value = 0;
  std::optional<double> standard_error;
};

/// The mean with its sample standard error; perplexity with that of 100,000 bootstrap samples,
/// drawn as the harness draws them. Throws c10::ValueError where there are no values.
Estimate estimate(const Metric& metric, std::span<const double> values);

/// Of several sets as one: the mean weighted by their sizes, and the pooled standard error.
Estimate pooled(std::span<const Estimate> estimates, std::span<const int64_t> sizes);

/// The scores of a set, or of several: of a category, of a task.
struct SetScores {
  std::string name, alias;
  std::string group;      ///< whose part it is, by name; empty for a task
  bool is_group = false;  ///< of several sets
  int64_t fewshot = 0;
  int64_t documents = 0;            ///< that the files hold
  int64_t asked = 0;                ///< that were asked
  std::vector<Estimate> estimates;  ///< for each metric of the task
};

/// A task's scores: of all sets, of their categories and of each, in that order.
/// `values` [sets][questions][metrics].
std::vector<SetScores> task_scores(const Task& task, const std::vector<QuestionSet>& sets,
                                   const std::vector<std::vector<std::vector<double>>>& values);

}  // namespace schmidt::eval
