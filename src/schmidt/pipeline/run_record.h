#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::pipeline {

/// The file of a run's folder that says what of it is done.
inline constexpr const char* kRunRecordFile = "run.json";

/// Whether a verb's result is a model.
bool makes_model(std::string_view verb);

/// What the result of a stage is called in the run's folder, after the stage's name and its verb: a
/// folder or a file of that name, or with the ending of what the verb writes.
std::string result_name(const std::string& stage, std::string_view verb);

/// Something that a stage reads: the result of an earlier one, or what lies elsewhere.
struct RecordedInput {
  std::string option;  ///< as recipes name it: "model"
  std::string stage;   ///< empty where it is none
  std::string path;    ///< empty where it is a stage
  bool operator==(const RecordedInput&) const = default;
};

/// A stage of the recipe, whether or not it is done.
struct RecordedStage {
  std::string name, verb;
  std::vector<RecordedInput> inputs;
  bool operator==(const RecordedStage&) const = default;
};

/// A model that stages read and none has made.
struct RecordedModel {
  std::string path;
  std::string name;        ///< io::model_name
  int64_t parameters = 0;  ///< of the whole model
  uint64_t bytes = 0;      ///< of its weights on disk
  bool operator==(const RecordedModel&) const = default;
};

/// What a stage ran on.
struct RecordedMachine {
  std::string processor;
  double threads = 0.0;  ///< processors that the run might use
  int64_t memory = 0;    ///< bytes of the machine
  std::vector<std::string> instruction_sets;
  bool operator==(const RecordedMachine&) const = default;
};

/// What is known of one stage.
struct StageRecord {
  std::string verb;
  std::string key;        ///< of all that decides its result: package::Fingerprint
  bool finished = false;  ///< false: begun, so that its unfinished work is of this key
  double seconds = 0.0;
  uint64_t bytes = 0;                ///< of the result
  std::vector<std::string> command;  ///< the verb and its arguments
  std::string program;               ///< "schmidt 0.1.0"
  std::string ended;                 ///< "2026-01-31T23:59:59Z"
  RecordedMachine machine;
  nlohmann::ordered_json result;  ///< what the verb printed with --json
  bool operator==(const StageRecord&) const = default;
};

struct RunRecord {
  std::vector<RecordedStage> recipe;          ///< that was followed last, in its order
  std::vector<RecordedModel> models;          ///< in the order in which the recipe names them
  std::map<std::string, StageRecord> stages;  ///< those that have begun, by their names
  bool operator==(const RunRecord&) const = default;
};

/// That of a folder; empty where it has none. Throws FormatError, SystemError.
RunRecord read_run_record(const std::filesystem::path& folder);

/// Replaces it whole. Throws SystemError.
void write_run_record(const std::filesystem::path& folder, const RunRecord& record);

}  // namespace schmidt::pipeline
