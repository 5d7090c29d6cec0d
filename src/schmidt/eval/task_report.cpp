#include "schmidt/eval/task_report.h"

#include <cmath>
#include <limits>

namespace schmidt::eval {

using nlohmann::ordered_json;

namespace {

ordered_json scores_json(const SetScores& scores, const std::vector<Metric>& metrics) {
  ordered_json json = {
      {"name", scores.name}, {"alias", scores.alias}, {"sample_len", scores.asked}};
  for (size_t m = 0; m < metrics.size(); ++m) {
    const Estimate& estimate = scores.estimates[m];
    json[key_of(metrics[m])] = estimate.value;
    if (estimate.standard_error) {
      json[error_key_of(metrics[m])] = *estimate.standard_error;
    } else {
      json[error_key_of(metrics[m])] = "N/A";
    }
  }
  return json;
}

ordered_json sample_json(const Task& task, const Question& question, const Response& response) {
  ordered_json json;
  if (task.asks == Asks::kText) {
    json["target"] = question.answers.empty() ? "" : question.answers.front();
    json["text"] = response.text;
    for (const Extraction& extraction : task.extractions) {
      json["extracted"][std::string(extraction.name)] = extraction.extract(response.text);
    }
  } else {
    json["target"] = question.answer;
    json["log_likelihoods"] = response.log_likelihoods;
    json["choice"] = likeliest_choice(question, response.log_likelihoods, false);
  }
  const std::vector<double> scores = scores_of(task, question, response);
  const std::vector<Metric> metrics = metrics_of(task);
  for (size_t m = 0; m < metrics.size(); ++m) json[key_of(metrics[m])] = scores[m];
  return json;
}

}  // namespace

std::string key_of(const Metric& metric) { return metric.name + "," + metric.filter; }

std::string error_key_of(const Metric& metric) { return metric.name + "_stderr," + metric.filter; }

std::optional<double> recovery(const Metric& metric, const Estimate& model,
                               const Estimate& reference) {
  const double share =
      metric.higher_is_better ? model.value / reference.value : reference.value / model.value;
  return std::isfinite(share) ? std::optional(100.0 * share) : std::nullopt;
}

ordered_json results_json(const std::vector<TaskResult>& results) {
  ordered_json all, groups, subtasks, versions, shots, better, samples, reference, recovered;
  for (const TaskResult& result : results) {
    const std::vector<Metric> metrics = metrics_of(*result.task);
    for (size_t s = 0; s < result.scores.size(); ++s) {
      const SetScores& scores = result.scores[s];
      all[scores.name] = scores_json(scores, metrics);
      if (scores.is_group) {
        groups[scores.name] = all[scores.name];
      } else {
        samples[scores.name] = {{"original", scores.documents}, {"effective", scores.asked}};
      }
      if (!scores.group.empty()) subtasks[scores.group].push_back(scores.name);
      versions[scores.name] = result.task->version;
      shots[scores.name] = scores.fewshot;
      for (const Metric& metric : metrics) {
        better[scores.name][metric.name] = metric.higher_is_better;
      }
      if (result.reference.empty()) continue;
      reference[scores.name] = scores_json(result.reference[s], metrics);
      for (size_t m = 0; m < metrics.size(); ++m) {
        const auto share =
            recovery(metrics[m], scores.estimates[m], result.reference[s].estimates[m]);
        recovered[scores.name][key_of(metrics[m])] = share ? ordered_json(*share) : ordered_json();
      }
    }
  }
  ordered_json json = {{"results", all}};
  if (!groups.empty()) json["groups"] = groups;
  json["group_subtasks"] = subtasks.empty() ? ordered_json::object() : subtasks;
  json["versions"] = versions;
  json["n-shot"] = shots;
  json["higher_is_better"] = better;
  json["n-samples"] = samples;
  if (!reference.empty()) {
    json["reference"] = reference;
    json["recovery"] = recovered;
  }
  return json;
}

ordered_json samples_json(const std::vector<TaskResult>& results) {
  ordered_json all = ordered_json::object();
  for (const TaskResult& result : results) {
    for (size_t s = 0; s < result.sets.size(); ++s) {
      const QuestionSet& set = result.sets[s];
      for (size_t q = 0; q < set.questions.size(); ++q) {
        ordered_json sample = {{"doc_id", q}};
        sample.update(sample_json(*result.task, set.questions[q], result.responses[s][q]));
        all[set.name].push_back(std::move(sample));
      }
    }
  }
  return all;
}

ordered_json response_json(const Response& response) {
  if (response.log_likelihoods.empty()) return {{"text", response.text}};
  return {{"log_likelihoods", response.log_likelihoods}, {"likeliest", response.likeliest}};
}

Response response_of(const ordered_json& json) {
  Response response;
  if (json.contains("text")) {
    response.text = json.at("text").get<std::string>();
    return response;
  }
  for (const ordered_json& value : json.at("log_likelihoods")) {
    response.log_likelihoods.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                                       : value.get<double>());
  }
  response.likeliest = json.at("likeliest").get<bool>();
  return response;
}

}  // namespace schmidt::eval
