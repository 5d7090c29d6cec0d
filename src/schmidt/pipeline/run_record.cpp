#include "schmidt/pipeline/run_record.h"

#include <limits>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"
#include "schmidt/io/json_record.h"

namespace schmidt::pipeline {
namespace {

constexpr int64_t kRecordVersion = 1;

}  // namespace

RunRecord read_run_record(const std::filesystem::path& folder) {
  RunRecord record;
  const std::filesystem::path file = folder / kRunRecordFile;
  if (!path_exists(file)) return record;
  const nlohmann::json json = io::read_json_object(file);
  const io::JsonRecord whole(json, "", file);
  whole.integer("version", kRecordVersion, kRecordVersion);
  for (const auto& [name, stage] : whole.object("stages").items()) {
    const io::JsonRecord read(stage, "stages." + name, file);
    StageRecord& known = record[name];
    known.verb = read.text("verb");
    known.key = read.text("key");
    known.finished = read.flag("finished");
    known.seconds = read.number("seconds", 0.0, std::numeric_limits<double>::max());
    known.bytes =
        static_cast<uint64_t>(read.integer("bytes", 0, std::numeric_limits<int64_t>::max()));
    if (read.has("result")) known.result = stage["result"];
  }
  return record;
}

void write_run_record(const std::filesystem::path& folder, const RunRecord& record) {
  nlohmann::ordered_json stages = nlohmann::ordered_json::object();
  for (const auto& [name, stage] : record) {
    stages[name] = {{"verb", stage.verb},         {"key", stage.key},
                    {"finished", stage.finished}, {"seconds", stage.seconds},
                    {"bytes", stage.bytes},       {"result", stage.result}};
  }
  const nlohmann::ordered_json json = {{"version", kRecordVersion},
                                       {"made_by", {{"program", "schmidt " SCHMIDT_VERSION}}},
                                       {"stages", stages}};
  write_file_atomically(folder / kRunRecordFile, io::json_text(json, 1) + "\n");
}

}  // namespace schmidt::pipeline
