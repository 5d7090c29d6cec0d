#include "schmidt/eval/scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <c10/util/Exception.h>

#include "schmidt/eval/python_random.h"
#include "schmidt/eval/python_text.h"

namespace schmidt::eval {
namespace {

// The harness's bootstrap: so many chunks of so many samples, each chunk seeded by its number.
constexpr uint64_t kChunks = 100;
constexpr int kSamples = 1000;

constexpr const char* kPerplexity = "perplexity";

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double sample_deviation(std::span<const double> values) {
  const double middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double perplexity(double sum, size_t count) { return std::exp(-sum / static_cast<double>(count)); }

double bootstrap_error_of_perplexity(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  std::vector<double> samples;
  for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
    PythonRandom random(chunk);
    for (int s = 0; s < kSamples; ++s) {
      double sum = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        sum += values[static_cast<size_t>(random.uniform() * n)];
      }
      samples.push_back(perplexity(sum, values.size()));
    }
  }
  return sample_deviation(samples);
}

/// Of all sets of a task, or of those of one category.
SetScores scores_of_sets(std::string name, std::string alias, std::span<const SetScores> sets,
                         size_t metrics) {
  SetScores all{.name = std::move(name), .alias = std::move(alias), .is_group = true};
  std::vector<int64_t> sizes;
  for (const SetScores& set : sets) {
    all.fewshot = set.fewshot;
    all.documents += set.documents;
    all.asked += set.asked;
    sizes.push_back(set.asked);
  }
  for (size_t m = 0; m < metrics; ++m) {
    std::vector<Estimate> estimates;
    for (const SetScores& set : sets) estimates.push_back(set.estimates[m]);
    all.estimates.push_back(pooled(estimates, sizes));
  }
  return all;
}

/// "stem" of "mmlu_stem".
std::string alias_of(std::string_view task, const std::string& category) {
  return category.substr(std::min(category.size(), task.size() + 1));
}

}  // namespace

std::vector<Metric> metrics_of(const Task& task) {
  switch (task.asks) {
    case Asks::kChoice:
      return task.by_length ? std::vector<Metric>{{"acc"}, {"acc_norm"}}
                            : std::vector<Metric>{{"acc"}};
    case Asks::kWord:
      return {{kPerplexity, "none", false}, {"acc"}};
    case Asks::kText:
      break;
  }
  std::vector<Metric> metrics;
  for (const Extraction& extraction : task.extractions) {
    metrics.push_back({"exact_match", std::string(extraction.name)});
  }
  return metrics;
}

size_t likeliest_choice(const Question& question, std::span<const double> log_likelihoods,
                        bool by_length) {
  const auto value = [&](size_t c) {
    return by_length ? log_likelihoods[c] / static_cast<double>(characters(question.choices[c]))
                     : log_likelihoods[c];
  };
  size_t best = 0;
  for (size_t c = 1; c < log_likelihoods.size(); ++c) {
    if (value(c) > value(best)) best = c;
  }
  return best;
}

std::vector<double> scores_of(const Task& task, const Question& question,
                              const Response& response) {
  std::vector<double> scores;
  const auto add = [&](bool right) { scores.push_back(right ? 1.0 : 0.0); };
  switch (task.asks) {
    case Asks::kChoice:
      for (const bool by_length : {false, true}) {
        if (by_length && !task.by_length) continue;
        add(likeliest_choice(question, response.log_likelihoods, by_length) == question.answer);
      }
      break;
    case Asks::kWord:
      scores.push_back(response.log_likelihoods.at(0));
      add(response.likeliest);
      break;
    case Asks::kText:
      for (const Extraction& extraction : task.extractions) {
        const std::string found = extraction.extract(response.text);
        add(std::ranges::any_of(question.answers, [&](const std::string& answer) {
          return extraction.matches(found, answer);
        }));
      }
      break;
  }
  return scores;
}

Estimate estimate(const Metric& metric, std::span<const double> values) {
  TORCH_CHECK_VALUE(!values.empty(), "[scores] expected a question or more, got none");
  const bool alone = values.size() == 1;
  if (metric.name == kPerplexity) {
    Estimate result{std::exp(-mean(values)), {}};
    if (!alone) result.standard_error = bootstrap_error_of_perplexity(values);
    return result;
  }
  Estimate result{mean(values), {}};
  if (!alone) {
    result.standard_error =
        sample_deviation(values) / std::sqrt(static_cast<double>(values.size()));
  }
  return result;
}

Estimate pooled(std::span<const Estimate> estimates, std::span<const int64_t> sizes) {
  TORCH_CHECK_VALUE(!estimates.empty() && estimates.size() == sizes.size(),
                    "[scores] expected a size for each of 1 estimate or more, got ", sizes.size());
  double sum = 0, squares = 0, count = 0;
  bool has_errors = true;
  for (size_t i = 0; i < estimates.size(); ++i) {
    const auto size = static_cast<double>(sizes[i]);
    const double error = estimates[i].standard_error.value_or(0);
    has_errors = has_errors && estimates[i].standard_error.has_value();
    sum += estimates[i].value * size;
    squares += (size - 1) * error * error * size;
    count += size;
  }
  Estimate result{sum / count, {}};
  if (has_errors) {
    const double variance = squares / (count - static_cast<double>(estimates.size()));
    result.standard_error = std::sqrt(variance / count);
  }
  return result;
}

std::vector<SetScores> task_scores(const Task& task, const std::vector<QuestionSet>& sets,
                                   const std::vector<std::vector<std::vector<double>>>& values) {
  const std::vector<Metric> metrics = metrics_of(task);
  const std::string whole(task.name);
  std::vector<SetScores> each;
  for (size_t s = 0; s < sets.size(); ++s) {
    SetScores scores{.name = sets[s].name,
                     .alias = sets[s].alias,
                     .group = sets[s].name == whole ? "" : whole,
                     .fewshot = sets[s].fewshot,
                     .documents = sets[s].documents,
                     .asked = static_cast<int64_t>(values[s].size())};
    if (!sets[s].category.empty()) scores.group = sets[s].category;
    for (size_t m = 0; m < metrics.size(); ++m) {
      std::vector<double> column;
      for (const std::vector<double>& of_question : values[s]) column.push_back(of_question[m]);
      scores.estimates.push_back(estimate(metrics[m], column));
    }
    each.push_back(std::move(scores));
  }
  if (each.size() == 1 && each[0].group.empty()) return each;
  std::vector<SetScores> all = {scores_of_sets(whole, whole, each, metrics.size())};
  std::stable_sort(each.begin(), each.end(),
                   [](const SetScores& a, const SetScores& b) { return a.group < b.group; });
  std::vector<SetScores> rest;
  for (size_t begin = 0; begin < each.size();) {
    const auto end = static_cast<size_t>(
        std::find_if(each.begin() + static_cast<std::ptrdiff_t>(begin), each.end(),
                     [&](const SetScores& set) { return set.group != each[begin].group; }) -
        each.begin());
    const std::span<const SetScores> part(each.data() + begin, end - begin);
    if (each[begin].group != whole) {
      rest.push_back(scores_of_sets(each[begin].group, alias_of(whole, each[begin].group), part,
                                    metrics.size()));
      rest.back().group = whole;
    }
    rest.insert(rest.end(), part.begin(), part.end());
    begin = end;
  }
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

}  // namespace schmidt::eval
