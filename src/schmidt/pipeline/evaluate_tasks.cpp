#include "schmidt/pipeline/evaluate_tasks.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/held_folder.h"
#include "schmidt/base/output_place.h"
#include "schmidt/eval/respondent.h"
#include "schmidt/io/json.h"
#include "schmidt/io/record_log.h"
#include "schmidt/model/model.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/outputs.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::vector<eval::TaskResult> read_tasks(const TaskRecipe& recipe) {
  TORCH_CHECK_VALUE(!recipe.tasks.empty(), "[tasks] expected one or more, got none");
  std::vector<eval::TaskResult> all;
  for (const std::string& name : recipe.tasks) {
    TORCH_CHECK_VALUE(std::ranges::count(recipe.tasks, name) == 1,
                      "[tasks] expected each once, got ", name, " several times");
    eval::TaskResult result;
    result.task = &eval::find_task(name);
    all.push_back(std::move(result));
  }
  for (eval::TaskResult& result : all) {
    result.sets = result.task->read(recipe.data, recipe.questions);
  }
  return all;
}

std::string work_fingerprint(const std::vector<const io::Checkpoint*>& models,
                             const std::vector<eval::TaskResult>& results, const TaskRun& run) {
  package::Fingerprint hash;
  for (const io::Checkpoint* model : models) hash.add(package::fingerprint(*model));
  hash.add(fmt::format("{} {}", models.size(), c10::toString(run.load.dtype)));
  const auto add = [&](const std::vector<std::string>& texts) {
    hash.add(fmt::format(" {} ", texts.size()));
    for (const std::string& text : texts) hash.add(fmt::format("{} ", text.size())).add(text);
  };
  for (const eval::TaskResult& result : results) {
    hash.add(result.task->name);
    for (const eval::QuestionSet& set : result.sets) {
      hash.add(set.name);
      for (const eval::Question& question : set.questions) {
        add({question.prompt});
        add(question.choices);
        add(question.prompts);
        add(question.answers);
      }
    }
  }
  return hash.hex();
}

/// Found now, not after hours of other questions.
void check_room(const std::vector<const io::Checkpoint*>& models,
                const std::vector<eval::TaskResult>& results) {
  for (const io::Checkpoint* checkpoint : models) {
    const model::ModelConfig config = model::parse_config(checkpoint->config(), checkpoint->path());
    for (const eval::TaskResult& result : results) {
      eval::check_room(*result.task, config.max_positions);
    }
  }
}

int64_t questions_in(const std::vector<eval::TaskResult>& results) {
  int64_t count = 0;
  for (const eval::TaskResult& result : results) {
    for (const eval::QuestionSet& set : result.sets) count += std::ssize(set.questions);
  }
  return count;
}

/// Responses by the question's number: those of the model, then those of the reference.
using Responses = std::map<int64_t, ordered_json>;

/// Those that rank 0 finds finished, on every rank.
Responses finished_responses(const std::optional<fs::path>& folder) {
  if (!folder) return {};
  ordered_json finished = ordered_json::array();
  if (parallel::rank() == 0) {
    for (auto& [number, record] : io::RecordLog::read(*folder))
      finished.push_back({number, record});
  }
  Responses responses;
  for (const auto& entry : ordered_json::parse(parallel::broadcast(io::json_text(finished)))) {
    responses[entry.at(0).get<int64_t>()] = entry.at(1);
  }
  return responses;
}

/// What a rank has asked.
class Asking {
 public:
  Asking(const std::vector<eval::TaskResult>& results, Responses& responses, io::RecordLog* log,
         const Reporter& reporter)
      : results_(results), responses_(responses), log_(log), reporter_(reporter) {}

  /// Asks one model this rank's share of what is open; its questions are numbered from `first`.
  void ask(const io::Checkpoint& checkpoint, int64_t first, const model::LoadOptions& load) {
    const Responses before = responses_;  // the same on every rank
    const auto is_open = [&](int64_t number) { return !before.contains(number); };
    bool any = false;
    for (int64_t i = 0; i < questions_in(results_); ++i) any = any || is_open(first + i);
    if (!any) return;
    const text::Tokenizer tokenizer = load_tokenizer(checkpoint, reporter_);
    const model::Model model = model::Model::load(checkpoint, load);
    eval::Respondent respondent(model, tokenizer);
    const std::vector<Share> shares = shares_of(respondent, first, is_open);
    int64_t total = 0, done = 0;
    for (const Share& share : shares) total += std::ssize(share.questions);
    for (const Share& share : shares) {
      respondent.ask(
          *share.task, share.questions, [&](const std::vector<eval::Answered>& answered) {
            std::vector<io::RecordLog::Entry> entries;
            for (const auto& [place, response] : answered) {
              entries.emplace_back(share.numbers[place], eval::response_json(response));
              own_[share.numbers[place]] = responses_[share.numbers[place]] = entries.back().second;
            }
            if (log_ != nullptr) log_->append(entries);
            done += std::ssize(answered);
            if (reporter_.progress) {
              reporter_.progress({"evaluate", share.task->name, done, total, "questions"});
            }
          });
    }
  }

  /// What all ranks have answered, on every rank.
  void gather() {
    ordered_json own = ordered_json::array();
    for (const auto& [number, response] : own_) own.push_back({number, response});
    for (const std::string& text : parallel::gather(io::json_text(own))) {
      for (const auto& entry : ordered_json::parse(text)) {
        responses_[entry.at(0).get<int64_t>()] = entry.at(1);
      }
    }
  }

 private:
  /// Questions that this rank asks together.
  struct Share {
    const eval::Task* task;
    std::vector<const eval::Question*> questions;
    std::vector<int64_t> numbers;
  };

  /// Groups of questions are dealt to the ranks, texts one by one.
  template <typename IsOpen>
  std::vector<Share> shares_of(const eval::Respondent& respondent, int64_t first,
                               const IsOpen& is_open) const {
    std::vector<Share> shares;
    int64_t dealt = 0;
    for (const eval::TaskResult& result : results_) {
      const bool texts = result.task->asks == eval::Asks::kText;
      if (texts) shares.push_back({result.task, {}, {}});
      std::vector<std::vector<const eval::Question*>> open;  // by set
      std::vector<const eval::Question*> questions;          // of all sets
      std::vector<int64_t> numbers;
      for (const eval::QuestionSet& set : result.sets) {
        open.emplace_back();
        for (const eval::Question& question : set.questions) {
          if (is_open(first)) {
            open.back().push_back(&question);
            questions.push_back(&question);
            numbers.push_back(first);
          }
          ++first;
        }
      }
      // Not more than a rank's share.
      const int64_t most = (std::ssize(questions) + parallel::size() - 1) / parallel::size();
      for (const std::vector<size_t>& group : respondent.groups(*result.task, open, most)) {
        if (dealt++ % parallel::size() != parallel::rank()) continue;
        if (!texts) shares.push_back({result.task, {}, {}});
        for (const size_t i : group) {
          shares.back().questions.push_back(questions[i]);
          shares.back().numbers.push_back(numbers[i]);
        }
      }
    }
    return shares;
  }

  const std::vector<eval::TaskResult>& results_;
  Responses& responses_;
  Responses own_;  // by this rank
  io::RecordLog* log_;
  const Reporter& reporter_;
};

/// The scores of responses that are numbered from `first`; they go into `responses` if it is
/// given.
std::vector<eval::SetScores> scores_of(const eval::TaskResult& result, const Responses& responses,
                                       int64_t first,
                                       std::vector<std::vector<eval::Response>>* kept) {
  std::vector<std::vector<std::vector<double>>> values;
  for (const eval::QuestionSet& set : result.sets) {
    values.emplace_back();
    if (kept != nullptr) kept->emplace_back();
    for (const eval::Question& question : set.questions) {
      eval::Response response = eval::response_of(responses.at(first++));
      TORCH_CHECK_VALUE(response.log_likelihoods.size() == question.choices.size(),
                        "[tasks] expected a response to each of ", question.choices.size(),
                        " choices in the unfinished work, got ", response.log_likelihoods.size());
      values.back().push_back(eval::scores_of(*result.task, question, response));
      if (kept != nullptr) kept->back().push_back(std::move(response));
    }
  }
  return eval::task_scores(*result.task, result.sets, values);
}

ordered_json file_of(const std::vector<eval::TaskResult>& results,
                     const std::vector<const io::Checkpoint*>& models, const TaskRecipe& recipe) {
  ordered_json json = eval::results_json(results);
  json["config"] = {{"model", models[0]->path().string()}, {"limit", nullptr}};
  if (models.size() > 1) json["config"]["reference"] = models[1]->path().string();
  if (recipe.questions.limit > 0) json["config"]["limit"] = recipe.questions.limit;
  json["made_by"] = {{"program", "schmidt " SCHMIDT_VERSION}};
  json["samples"] = eval::samples_json(results);
  return json;
}

}  // namespace

std::vector<eval::TaskResult> evaluate_tasks(const io::Checkpoint& model,
                                             const io::Checkpoint* reference,
                                             const TaskRecipe& recipe, const TaskRun& run,
                                             const Reporter& reporter) {
  TORCH_CHECK_VALUE(!run.out || run.out->extension() == ".json",
                    "[output] expected a .json file, got ", run.out->string());
  std::vector<eval::TaskResult> results = read_tasks(recipe);
  std::vector<const io::Checkpoint*> models = {&model};
  std::vector<InputPath> inputs = {{"the model", model.path()}, {"data", recipe.data}};
  if (reference != nullptr) {
    models.push_back(reference);
    inputs.push_back({"the reference", reference->path()});
  }
  check_room(models, results);
  std::optional<fs::path> place, partial;
  std::optional<HeldFolder> held;  // for all ranks, from here on
  std::optional<WorkFolder> work;
  if (run.out) {
    place = output_file(*run.out, run.force, inputs);
    partial = with_ending(*place, ".partial");
    if (parallel::rank() == 0) {
      check_apart({*place, *partial}, inputs);
      held.emplace(*partial, io::RecordLog::is_own);
      work.emplace(io::RecordLog::prepare(*partial, work_fingerprint(models, results, run),
                                          "evaluation of another model, data or recipe",
                                          run.force));
    }
  }
  Responses responses = finished_responses(partial);
  std::optional<io::RecordLog> log;
  if (partial) {
    std::error_code ignored;  // ranks on other machines have a folder of their own
    fs::create_directories(*partial, ignored);
    log.emplace(*partial, parallel::rank());
  }
  Asking asking(results, responses, log ? &*log : nullptr, reporter);
  const int64_t count = questions_in(results);
  for (size_t m = 0; m < models.size(); ++m) {
    asking.ask(*models[m], static_cast<int64_t>(m) * count, run.load);
  }
  asking.gather();

  int64_t first = 0;
  for (eval::TaskResult& result : results) {
    result.scores = scores_of(result, responses, first, &result.responses);
    if (reference != nullptr) {
      result.reference = scores_of(result, responses, count + first, nullptr);
    }
    for (const eval::QuestionSet& set : result.sets) first += std::ssize(set.questions);
  }
  if (run.out && parallel::rank() == 0) {
    write_file_atomically(*place, io::json_text(file_of(results, models, recipe), 1) + "\n");
    log.reset();
    held->remove();
  }
  return results;
}

}  // namespace schmidt::pipeline
