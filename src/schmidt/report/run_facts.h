#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/profile/profile_file.h"

/// What a run of `schmidt run` has made and measured, as its page is drawn from it.
///
/// `model` is a place in RunFacts::models. `source` names the file, as seen from the run's folder,
/// that holds what is said: "int8-eval.json".
namespace schmidt::report {

/// A model that the run read or made.
struct ModelFacts {
  std::string name;  ///< "original", or the stage that made it
  std::string
      origin;  ///< what it is made by: "quantize"; of one that the run read, what it is called
  int64_t parameters = 0;
  int64_t original_parameters = 0;  ///< of the model that it was made from in the beginning
  uint64_t bytes = 0;               ///< of its weights
  std::string source;
  /// A place in RunFacts::models: what it was made from in the beginning, or is compared with.
  std::optional<size_t> original = {};
};

/// How far a model's next-token distributions are from another's, in nats.
struct DivergenceFacts {
  double mean = 0.0, median = 0.0, p90 = 0.0, p99 = 0.0, p999 = 0.0, max = 0.0;
  double top1_agreement = 0.0;  ///< in [0, 1]
};

/// One text, cut in one way: what is measured on it may be compared.
struct TextFacts {
  std::string text;  ///< the file's name, or its path where others are called so too
  int64_t context = 0, tokens = 0;
};

/// A model's loss on a text.
struct TextScoreFacts {
  size_t model = 0, text = 0;                            ///< a place in RunFacts::texts
  double perplexity = 0.0, nll = 0.0, nll_stderr = 0.0;  ///< NaN where it was not finite
  std::optional<DivergenceFacts> kl;                     ///< from its original alone
  std::string source;
};

/// A model's score in a benchmark.
struct TaskScoreFacts {
  size_t model = 0;
  std::string task;    ///< "hellaswag"
  std::string metric;  ///< "acc_norm"
  double value = 0.0;
  std::optional<double> standard_error, recovery;  ///< recovery in per cent
  int64_t questions = 0, fewshot = 0;
  bool higher_is_better = true;
  std::string source;
};

/// A model's speed in one measurement: all of a stage took turns.
struct SpeedFacts {
  size_t model = 0;
  std::string stage, test;  ///< "pp512": prefill of 512 tokens; "tg128": 128 tokens decoded
  double tokens_per_second = 0.0, deviation = 0.0;
  double ratio = 1.0;  ///< of its speed to that of the stage's first model
  std::string source;
  int64_t batch = 1;  ///< sequences at once
};

/// A healed model's run.
struct HealingFacts {
  size_t model = 0;
  std::vector<nlohmann::json> log;  ///< as heal::read_run_log reads it
  std::string source;
};

/// The sensitivity of a model's layers.
struct SensitivityFacts {
  std::string stage;
  profile::Profile profile;
  std::string source;
};

/// What a model wrote.
struct SampleFacts {
  size_t model = 0;
  std::string prompt, text;
  std::string source;
};

/// The shape of a weight, W [rows, cols].
struct WeightFacts {
  std::string name;
  int64_t rows = 0, cols = 0;
};

enum class StageState {
  kFinished,
  kBegun,  ///< and not finished
  kNotBegun,
  kGone,  ///< finished once; its result is not there any more
};

/// A machine that stages ran on.
struct MachineFacts {
  std::string processor;
  double threads = 0.0;
  int64_t memory = 0;  ///< bytes
  std::vector<std::string> instruction_sets;
  bool operator==(const MachineFacts&) const = default;
};

struct StageFacts {
  std::string name, verb;
  StageState state = StageState::kFinished;
  std::vector<std::string> command;  ///< the verb and its arguments; empty where it is not known
  std::string program, ended;        ///< "schmidt 0.1.0"; in UTC; empty where it is not known
  double seconds = 0.0;
  std::optional<size_t> machine;  ///< a place in RunFacts::machines
  std::string source;             ///< its result
};

struct RunFacts {
  std::string name;                ///< of the run's folder
  std::vector<ModelFacts> models;  ///< the original first, where there is one
  std::optional<size_t> original;  ///< what the first that was made was made from in the beginning
  std::vector<TextFacts> texts;
  std::vector<TextScoreFacts> text_scores;
  std::vector<TaskScoreFacts> task_scores;
  std::vector<SpeedFacts> speeds;
  std::vector<HealingFacts> healings;
  std::vector<SensitivityFacts> sensitivities;
  std::vector<SampleFacts> samples;
  std::optional<WeightFacts> largest_mlp_weight;  ///< of the original
  std::vector<StageFacts> stages;                 ///< in the recipe's order
  std::vector<MachineFacts> machines;
};

}  // namespace schmidt::report
