#include "schmidt/pipeline/read_run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/heal/run_log.h"
#include "schmidt/io/json.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"
#include "schmidt/pipeline/run_record.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using io::JsonRecord;
using nlohmann::json;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// Options that tell models of one run apart.
constexpr std::string_view kTelling[] = {
    "size",   "bits-per-weight", "speedup", "keep",  "bond",   "plan", "bits",
    "scheme", "method",          "layers",  "sites", "tokens", "to",   "type"};

/// What JSON cannot hold is written as null.
double number_or_none(const JsonRecord& read, const char* key) {
  return read.has(key) ? read.number(key, -kLargest, kLargest) : kNone;
}

/// The place of a value in a list, which gets it where it lacks it.
template <typename Value>
size_t place_in(std::vector<Value>& list, const Value& value) {
  const auto found = std::ranges::find(list, value);
  if (found != list.end()) return static_cast<size_t>(found - list.begin());
  list.push_back(value);
  return list.size() - 1;
}

/// Adds a score, or puts it in the place of that of the same measurement if it `replaces` it.
template <typename Score, typename Same>
void put(std::vector<Score>& scores, Score score, bool replaces, const Same& same) {
  const auto found = std::ranges::find_if(scores, same);
  if (found == scores.end()) {
    scores.push_back(std::move(score));
  } else if (replaces) {
    *found = std::move(score);
  }
}

class RunReader {
 public:
  explicit RunReader(const fs::path& folder) : folder_(folder), record_(read_run_record(folder)) {
    TORCH_CHECK_VALUE(path_exists(folder / kRunRecordFile),
                      "[report] expected the folder of a run, "
                      "with its ",
                      kRunRecordFile, ", got ", folder.string());
    TORCH_CHECK_VALUE(!record_.recipe.empty(), "[report] ", (folder / kRunRecordFile).string(),
                      " does not say which recipe was followed; expected that of a run that "
                      "schmidt run has gone through once more");
  }

  report::RunFacts read() {
    facts_.name = last_name(fs::absolute(folder_).lexically_normal());
    for (const RecordedStage& stage : record_.recipe) check_name(stage.name);
    add_models();
    bool any = false;
    for (const RecordedStage& stage : record_.recipe) {
      const report::StageState state = add_stage(stage);
      any = any || state == report::StageState::kFinished;
      if (state == report::StageState::kFinished) add_result(stage);
    }
    TORCH_CHECK_VALUE(any, "[report] expected a run with a finished stage, got ", folder_.string(),
                      ", where none is");
    tell_texts_apart();
    add_weight();
    return std::move(facts_);
  }

 private:
  /// A result stands in the folder itself, under the stage's name.
  void check_name(const std::string& name) const {
    if (!name.empty() && name != "." && name != ".." &&
        name.find_first_of(std::string_view("/\0", 2)) == name.npos) {
      return;
    }
    throw FormatError(folder_ / kRunRecordFile, "recipe",
                      fmt::format("expected names of stages without a slash, found {}", name));
  }

  const StageRecord* record_of(const std::string& stage) const {
    const auto found = record_.stages.find(stage);
    return found == record_.stages.end() ? nullptr : &found->second;
  }

  fs::path file_of(const std::string& stage) const { return folder_ / (stage + ".json"); }

  // Models -------------------------------------------------------------------

  static const RecordedInput* input_named(const RecordedStage& stage, std::string_view option) {
    const auto found = std::ranges::find(stage.inputs, option, &RecordedInput::option);
    return found == stage.inputs.end() ? nullptr : &*found;
  }

  const RecordedStage* stage_named(const std::string& name) const {
    const auto found = std::ranges::find(record_.recipe, name, &RecordedStage::name);
    return found == record_.recipe.end() ? nullptr : &*found;
  }

  /// The model that something was made from in the beginning: a path; "" where that is not known.
  std::string beginning_of(const RecordedInput* input) const {
    for (size_t steps = 0; input != nullptr && steps <= record_.recipe.size(); ++steps) {
      if (input->stage.empty()) return input->path;
      const RecordedStage* const stage = stage_named(input->stage);
      input = stage == nullptr ? nullptr : input_named(*stage, "model");
    }
    return "";
  }

  std::string original_path() const {
    for (const RecordedStage& stage : record_.recipe) {
      if (makes_model(stage.verb)) return beginning_of(input_named(stage, "model"));
    }
    for (const RecordedStage& stage : record_.recipe) {
      for (const char* option : {"reference", "model"}) {
        if (const RecordedInput* const input = input_named(stage, option))
          return beginning_of(input);
      }
    }
    return "";
  }

  void add_models() {
    const std::string original = original_path();
    std::vector<RecordedModel> outside = record_.models;
    std::ranges::stable_partition(outside, [&](const auto& m) { return m.path == original; });
    for (const RecordedModel& model : outside) {
      const bool is_original = model.path == original;
      if (is_original) facts_.original = 0;
      facts_.models.push_back({is_original ? "original" : model.name, model.name, model.parameters,
                               model.parameters, model.bytes, kRunRecordFile});
      outside_.push_back(model.path);
    }
    for (report::ModelFacts& model : facts_.models) model.original = facts_.original;
    for (const RecordedStage& stage : record_.recipe) add_made_model(stage);
  }

  /// The model of a path that the run read; none where it is not known.
  std::optional<size_t> outside_model(const std::string& path) const {
    const auto found = std::ranges::find(outside_, path);
    if (found == outside_.end()) return std::nullopt;
    return static_cast<size_t>(found - outside_.begin());
  }

  void add_made_model(const RecordedStage& stage) {
    const StageRecord* const record = record_of(stage.name);
    if (!makes_model(stage.verb) || record == nullptr || !record->finished) return;
    const json result = record->result;
    const JsonRecord read(result, "stages." + stage.name + ".result", folder_ / kRunRecordFile);
    report::ModelFacts model{.name = stage.name, .source = kRunRecordFile};
    model.parameters = read.integer("parameters", 0, kMost);
    model.bytes = static_cast<uint64_t>(read.integer("bytes", 0, kMost));
    const RecordedInput* const from = input_named(stage, "model");
    if (read.has("dense_parameters")) {
      model.original_parameters = read.integer("dense_parameters", 0, kMost);
    } else if (const auto before = from == nullptr ? std::nullopt : model_of(*from)) {
      model.original_parameters = facts_.models[*before].original_parameters;
    }
    model.origin = origin_of(stage, *record);
    model.original = outside_model(beginning_of(from));
    if (model.original) facts_.models[*model.original].original = model.original;
    made_.emplace_back(stage.name, facts_.models.size());
    facts_.models.push_back(std::move(model));
  }

  static std::string origin_of(const RecordedStage& stage, const StageRecord& record) {
    std::vector<std::string> parts;
    for (const std::string& argument : record.command) {
      const size_t equals = argument.find('=');
      if (!argument.starts_with("--") || equals == argument.npos) continue;
      const std::string_view name = std::string_view(argument).substr(2, equals - 2);
      if (std::ranges::find(kTelling, name) == std::end(kTelling)) continue;
      std::string value = argument.substr(equals + 1);
      if (name == "plan") value = last_name(value);
      parts.push_back(fmt::format("{} {}", name, value));
    }
    const RecordedInput* const from = input_named(stage, "model");
    const std::string of = from == nullptr || from->stage.empty() ? "" : " of " + from->stage;
    return fmt::format("{}{}{}{}", stage.verb, of, parts.empty() ? "" : ": ",
                       fmt::join(parts, ", "));
  }

  std::optional<size_t> model_of(const RecordedInput& input) const {
    if (input.stage.empty()) return outside_model(input.path);
    for (const auto& [stage, model] : made_) {
      if (stage == input.stage) return model;
    }
    return std::nullopt;
  }

  std::optional<size_t> model_of(const RecordedStage& stage, const char* option) const {
    const RecordedInput* const input = input_named(stage, option);
    return input == nullptr ? std::nullopt : model_of(*input);
  }

  // Stages -------------------------------------------------------------------

  report::StageState add_stage(const RecordedStage& stage) {
    report::StageFacts facts{.name = stage.name, .verb = stage.verb};
    facts.state = report::StageState::kNotBegun;
    if (const StageRecord* const record = record_of(stage.name)) {
      facts.state = report::StageState::kBegun;
      facts.command = record->command;
      facts.program = record->program;
      facts.ended = record->ended;
      facts.seconds = record->seconds;
      if (record->machine != RecordedMachine()) facts.machine = machine_of(record->machine);
      if (record->finished) {
        const std::string name = result_name(stage.name, stage.verb);
        const fs::path result = folder_ / name;
        facts.state =
            path_exists(result) ? report::StageState::kFinished : report::StageState::kGone;
        const bool is_model = path_exists(result / "config.json");
        facts.source = name + (is_model ? "/config.json" : "");
      }
    }
    // Neither is a stage that is not done the page itself, nor one that it has to show.
    if (stage.verb == "report") return report::StageState::kNotBegun;
    facts_.stages.push_back(facts);
    return facts.state;
  }

  size_t machine_of(const RecordedMachine& machine) {
    return place_in(facts_.machines,
                    report::MachineFacts{machine.processor, machine.threads, machine.memory,
                                         machine.instruction_sets});
  }

  void add_result(const RecordedStage& stage) {
    if (stage.verb == "eval") add_evaluation(stage);
    if (stage.verb == "bench") add_speeds(stage);
    if (stage.verb == "generate") add_samples(stage);
    if (stage.verb == "profile") {
      facts_.sensitivities.push_back(
          {stage.name, profile::read_profile(file_of(stage.name)), stage.name + ".json"});
    }
    if (stage.verb == "heal") {
      const fs::path log = folder_ / stage.name / "heal.jsonl";
      const auto model = model_of({"model", stage.name, ""});
      if (model && path_exists(log)) {
        facts_.healings.push_back({*model, heal::read_run_log(log), stage.name + "/heal.jsonl"});
      }
    }
  }

  // Evaluations --------------------------------------------------------------

  void add_evaluation(const RecordedStage& stage) {
    const fs::path file = file_of(stage.name);
    const json object = io::read_json_object(file);
    const JsonRecord read(object, "", file);
    const auto model = model_of(stage, "model");
    if (!model) return;
    const auto reference = model_of(stage, "reference");
    // Distances from another model than the original are none of these tables.
    const bool compares = reference && facts_.models[*model].original == reference;
    if (read.has("results")) {
      add_tasks(object, read, *model, stage.name, compares);
    } else {
      add_texts(read, *model, stage.name, compares, reference.value_or(*model));
    }
  }

  void add_score(const report::TextScoreFacts& score, bool replaces) {
    put(facts_.text_scores, score, replaces, [&](const report::TextScoreFacts& other) {
      return other.model == score.model && other.text == score.text;
    });
  }

  static report::TextScoreFacts score_of(const JsonRecord& read) {
    report::TextScoreFacts score;
    score.perplexity = number_or_none(read, "perplexity");
    score.nll = number_or_none(read, "nll");
    score.nll_stderr = number_or_none(read, "nll_stderr");
    return score;
  }

  /// Those of other tokens are others, whatever the files are called.
  struct TextKey {
    std::string fingerprint;
    int64_t context = 0, tokens = 0;
    bool operator==(const TextKey&) const = default;
  };

  size_t text_of(const JsonRecord& entry, int64_t context, size_t author) {
    const std::string path = entry.text("text");
    const TextKey key{entry.optional_text("fingerprint").value_or(path), context,
                      entry.integer("tokens", 0, kMost)};
    const size_t place = place_in(text_keys_, key);
    if (place == facts_.texts.size()) {
      const std::string name =
          path == "self" ? "self, written by " + facts_.models[author].name : last_name(path);
      facts_.texts.push_back({name, context, key.tokens});
      text_paths_.push_back(path);
    }
    return place;
  }

  /// Files of one name by their paths.
  void tell_texts_apart() {
    std::vector<std::string> names;
    for (const report::TextFacts& text : facts_.texts) names.push_back(text.text);
    for (size_t i = 0; i < names.size(); ++i) {
      for (size_t j = 0; j < names.size(); ++j) {
        const bool differ = names[i] == names[j] && text_paths_[i] != text_paths_[j];
        if (differ) facts_.texts[i].text = text_paths_[i];
      }
    }
  }

  /// `author` has written the text "self".
  void add_texts(const JsonRecord& read, size_t model, const std::string& stage, bool compares,
                 size_t author) {
    const int64_t context = read.integer("context", 1, kMost);
    for (const JsonRecord& entry : read.records("texts")) {
      const size_t text = text_of(entry, context, author);
      report::TextScoreFacts score = score_of(entry);
      score.model = model;
      score.text = text;
      score.source = stage + ".json";
      if (compares && entry.has("kl")) {
        const JsonRecord kl = entry.record("kl");
        score.kl = {number_or_none(kl, "mean"),
                    number_or_none(kl, "median"),
                    number_or_none(kl, "p90"),
                    number_or_none(kl, "p99"),
                    number_or_none(kl, "p999"),
                    number_or_none(kl, "max"),
                    number_or_none(entry, "top1_agreement")};
      }
      add_score(score, /*replaces=*/true);
      if (!compares || !entry.has("reference")) continue;
      report::TextScoreFacts reference = score_of(entry.record("reference"));
      reference.model = *facts_.models[model].original;
      reference.text = text;
      reference.source = stage + ".json";
      add_score(reference, /*replaces=*/false);
    }
  }

  void add_tasks(const json& object, const JsonRecord& read, size_t model, const std::string& stage,
                 bool compares) {
    add_task_scores(object, read, "results", model, stage, /*replaces=*/true, compares);
    if (compares && read.has("reference")) {
      add_task_scores(object, read, "reference", *facts_.models[model].original, stage,
                      /*replaces=*/false, /*recovers=*/false);
    }
  }

  /// `recovers`: beside a score stands what is left of the original's.
  void add_task_scores(const json& object, const JsonRecord& read, const char* of, size_t model,
                       const std::string& stage, bool replaces, bool recovers) {
    std::set<std::string> parts;  // subjects and categories stand in the file
    if (read.has("group_subtasks")) {
      for (const auto& [group, members] : read.object("group_subtasks").items()) {
        for (const json& member : members) {
          if (member.is_string()) parts.insert(member.get<std::string>());
        }
      }
    }
    const fs::path file = file_of(stage);
    for (const auto& [task, scores] : read.object(of).items()) {
      if (parts.contains(task)) continue;
      const JsonRecord values(scores, fmt::format("{}.{}", of, task), file);
      for (const auto& [key, value] : scores.items()) {
        const size_t comma = key.find(',');
        if (comma == key.npos || key.find("_stderr,") != key.npos) continue;
        const std::string name = key.substr(0, comma), filter = key.substr(comma + 1);
        report::TaskScoreFacts score{.model = model, .task = task, .source = stage + ".json"};
        score.metric = filter == "none" ? name : fmt::format("{}, {}", name, filter);
        score.value = number_or_none(values, key.c_str());
        const std::string error = fmt::format("{}_stderr,{}", name, filter);
        if (scores.contains(error) && scores[error].is_number()) {
          score.standard_error = scores[error].get<double>();
        }
        score.questions = values.integer("sample_len", 0, kMost);
        score.fewshot = object.value(json::json_pointer("/n-shot/" + task), int64_t{0});
        score.higher_is_better = object.value(
            json::json_pointer(fmt::format("/higher_is_better/{}/{}", task, name)), true);
        if (recovers) {
          const auto at = json::json_pointer(fmt::format("/recovery/{}", task));
          if (object.contains(at) && object[at].is_object() && object[at].contains(key) &&
              object[at][key].is_number()) {
            score.recovery = object[at][key].get<double>();
          }
        }
        add_task_score(score, replaces);
      }
    }
  }

  void add_task_score(const report::TaskScoreFacts& score, bool replaces) {
    put(facts_.task_scores, score, replaces, [&](const report::TaskScoreFacts& other) {
      return other.model == score.model && other.task == score.task &&
             other.metric == score.metric && other.questions == score.questions &&
             other.fewshot == score.fewshot;
    });
  }

  // Speed, text, shapes ------------------------------------------------------

  void add_speeds(const RecordedStage& stage) {
    std::vector<const RecordedInput*> models;
    for (const RecordedInput& input : stage.inputs) {
      if (input.option == "model") models.push_back(&input);
    }
    const fs::path file = file_of(stage.name);
    const json object = io::read_json_object(file);
    const JsonRecord read(object, "", file);
    const std::vector<JsonRecord> results = read.records("results");
    if (models.empty() || results.empty() || results.size() % models.size() != 0) {
      read.fail("results", fmt::format("expected results of {} models, found {}", models.size(),
                                       results.size()));
    }
    const size_t tests = results.size() / models.size();
    const int64_t batch = read.has("batch") ? read.integer("batch", 1, kMost) : 1;
    for (size_t i = 0; i < results.size(); ++i) {
      const auto model = model_of(*models[i / tests]);
      if (!model) continue;
      facts_.speeds.push_back({*model, stage.name, results[i].text("test"),
                               results[i].number("tokens_per_second", 0.0, kLargest),
                               number_or_none(results[i], "stddev"),
                               results[i].number("ratio_to_first", 0.0, kLargest),
                               stage.name + ".json", batch});
    }
  }

  void add_samples(const RecordedStage& stage) {
    const fs::path file = file_of(stage.name);
    const json object = io::read_json_object(file);
    const JsonRecord read(object, "", file);
    const auto model = model_of(stage, "model");
    if (!model) return;
    const auto add = [&](const JsonRecord& sample) {
      facts_.samples.push_back(
          {*model, sample.text("prompt"), sample.text("text"), stage.name + ".json"});
    };
    if (!read.has("continuations")) {
      add(read);
      return;
    }
    for (const JsonRecord& sample : read.records("continuations")) add(sample);
  }

  /// The original's, as the config of a model made from it has it.
  void add_weight() {
    for (const auto& [stage, model] : made_) {
      const fs::path file = folder_ / stage / "config.json";
      if (!path_exists(file)) continue;
      const model::ModelConfig config = model::parse_config(io::read_json_object(file), file);
      report::WeightFacts largest;
      for (const model::LayerSpec& layer : model::block_layers(config)) {
        if (layer.name.find(".self_attn.") != std::string::npos) continue;
        if (layer.out_features * layer.in_features <= largest.rows * largest.cols) continue;
        largest = {layer.name.substr(layer.name.rfind('.') + 1), layer.out_features,
                   layer.in_features};
      }
      facts_.largest_mlp_weight = largest;
      return;
    }
  }

  const fs::path& folder_;
  const RunRecord record_;
  report::RunFacts facts_;
  std::vector<TextKey> text_keys_;                    ///< of facts_.texts
  std::vector<std::string> text_paths_;               ///< of the same
  std::vector<std::string> outside_;                  ///< paths of the first models
  std::vector<std::pair<std::string, size_t>> made_;  ///< by stages, after them
};

}  // namespace

report::RunFacts read_run(const fs::path& folder) { return RunReader(folder).read(); }

}  // namespace schmidt::pipeline
