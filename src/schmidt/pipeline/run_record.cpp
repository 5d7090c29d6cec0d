#include "schmidt/pipeline/run_record.h"

#include <limits>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"
#include "schmidt/io/json_record.h"

namespace schmidt::pipeline {
namespace {

constexpr int64_t kRecordVersion = 1;
constexpr int64_t kMostBytes = std::numeric_limits<int64_t>::max();
constexpr double kMostSeconds = std::numeric_limits<double>::max();

RecordedStage recipe_stage(const io::JsonRecord& read) {
  RecordedStage stage{read.text("name"), read.text("verb"), {}};
  for (const io::JsonRecord& input : read.records("reads")) {
    stage.inputs.push_back({input.text("option"), input.optional_text("stage").value_or(""),
                            input.optional_text("path").value_or("")});
  }
  return stage;
}

RecordedMachine machine_of(const io::JsonRecord& read) {
  return {read.text("processor"), read.number("threads", 0.0, 1e6),
          read.integer("memory_bytes", 0, kMostBytes), read.texts("instruction_sets")};
}

StageRecord stage_of(const io::JsonRecord& read, const nlohmann::json& stage) {
  StageRecord known;
  known.verb = read.text("verb");
  known.key = read.text("key");
  known.finished = read.flag("finished");
  known.seconds = read.number("seconds", 0.0, kMostSeconds);
  known.bytes = static_cast<uint64_t>(read.integer("bytes", 0, kMostBytes));
  if (read.has("command")) known.command = read.texts("command");
  known.program = read.optional_text("program").value_or("");
  known.ended = read.optional_text("ended").value_or("");
  if (read.has("machine")) known.machine = machine_of(read.record("machine"));
  if (read.has("result")) known.result = stage["result"];
  return known;
}

nlohmann::ordered_json to_json(const RecordedStage& stage) {
  nlohmann::ordered_json reads = nlohmann::ordered_json::array();
  for (const RecordedInput& input : stage.inputs) {
    reads.push_back({{"option", input.option}});
    if (!input.stage.empty()) reads.back()["stage"] = input.stage;
    if (!input.path.empty()) reads.back()["path"] = input.path;
  }
  return {{"name", stage.name}, {"verb", stage.verb}, {"reads", reads}};
}

nlohmann::ordered_json to_json(const StageRecord& stage) {
  nlohmann::ordered_json json = {{"verb", stage.verb},
                                 {"key", stage.key},
                                 {"finished", stage.finished},
                                 {"seconds", stage.seconds},
                                 {"bytes", stage.bytes}};
  if (!stage.command.empty()) json["command"] = stage.command;
  if (!stage.program.empty()) json["program"] = stage.program;
  if (!stage.ended.empty()) json["ended"] = stage.ended;
  if (stage.machine != RecordedMachine()) {
    json["machine"] = {{"processor", stage.machine.processor},
                       {"threads", stage.machine.threads},
                       {"memory_bytes", stage.machine.memory},
                       {"instruction_sets", stage.machine.instruction_sets}};
  }
  json["result"] = stage.result;
  return json;
}

}  // namespace

bool makes_model(std::string_view verb) {
  return verb == "compress" || verb == "quantize" || verb == "heal" || verb == "export";
}

std::string result_name(const std::string& stage, std::string_view verb) {
  if (makes_model(verb)) return stage;
  return stage + (verb == "sample" ? ".jsonl" : verb == "report" ? ".html" : ".json");
}

RunRecord read_run_record(const std::filesystem::path& folder) {
  RunRecord record;
  const std::filesystem::path file = folder / kRunRecordFile;
  if (!path_exists(file)) return record;
  const nlohmann::json json = io::read_json_object(file);
  const io::JsonRecord whole(json, "", file);
  whole.integer("version", kRecordVersion, kRecordVersion);
  if (whole.has("recipe")) {
    for (const auto& stage : whole.records("recipe")) record.recipe.push_back(recipe_stage(stage));
  }
  if (whole.has("models")) {
    for (const io::JsonRecord& model : whole.records("models")) {
      record.models.push_back({model.text("path"), model.text("name"),
                               model.integer("parameters", 0, kMostBytes),
                               static_cast<uint64_t>(model.integer("bytes", 0, kMostBytes))});
    }
  }
  for (const auto& [name, stage] : whole.object("stages").items()) {
    record.stages[name] = stage_of(io::JsonRecord(stage, "stages." + name, file), stage);
  }
  return record;
}

void write_run_record(const std::filesystem::path& folder, const RunRecord& record) {
  nlohmann::ordered_json recipe = nlohmann::ordered_json::array(), models = recipe;
  for (const RecordedStage& stage : record.recipe) recipe.push_back(to_json(stage));
  for (const RecordedModel& model : record.models) {
    models.push_back({{"path", model.path},
                      {"name", model.name},
                      {"parameters", model.parameters},
                      {"bytes", model.bytes}});
  }
  nlohmann::ordered_json stages = nlohmann::ordered_json::object();
  for (const auto& [name, stage] : record.stages) stages[name] = to_json(stage);
  const nlohmann::ordered_json json = {{"version", kRecordVersion},
                                       {"made_by", {{"program", "schmidt " SCHMIDT_VERSION}}},
                                       {"recipe", recipe},
                                       {"models", models},
                                       {"stages", stages}};
  write_file_atomically(folder / kRunRecordFile, io::json_text(json, 1) + "\n");
}

}  // namespace schmidt::pipeline
