#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace schmidt::pipeline {

/// The file of a run's folder that says what of it is done.
inline constexpr const char* kRunRecordFile = "run.json";

/// What is known of one stage.
struct StageRecord {
  std::string verb;
  std::string key;        ///< of all that decides its result: package::Fingerprint
  bool finished = false;  ///< false: begun, so that its unfinished work is of this key
  double seconds = 0.0;
  uint64_t bytes = 0;             ///< of the result
  nlohmann::ordered_json result;  ///< what the verb printed with --json
};

/// By the stages' names.
using RunRecord = std::map<std::string, StageRecord>;

/// That of a folder; empty where it has none. Throws FormatError, SystemError.
RunRecord read_run_record(const std::filesystem::path& folder);

/// Replaces it whole. Throws SystemError.
void write_run_record(const std::filesystem::path& folder, const RunRecord& record);

}  // namespace schmidt::pipeline
