#include "schmidt/heal/run_log.h"

#include <cerrno>
#include <fstream>
#include <limits>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"

namespace schmidt::heal {

using nlohmann::json;

RunLog::RunLog(std::filesystem::path path) : path_(std::move(path)) {
  errno = 0;
  const std::ofstream file(path_, std::ios::app);
  if (!file) throw SystemError("cannot write", path_, errno);
  rewind(std::numeric_limits<int64_t>::max());
}

void RunLog::rewind(int64_t step) {
  keep_if([&](const json& line) { return !line.contains("step") || line["step"] <= step; });
}

void RunLog::rewind_to_block(int64_t block) {
  keep_if([&](const json& line) { return !line.contains("block") || line["block"] < block; });
}

void RunLog::keep_if(const std::function<bool(const json& line)>& wanted) {
  if (path_.empty()) return;
  std::string kept;
  for (const json& line : read_run_log(path_)) {
    if (wanted(line)) kept += io::json_text(line) + "\n";
  }
  write_file_atomically(path_, kept);
}

void RunLog::write(const json& line) {
  if (path_.empty()) return;
  std::ofstream file(path_, std::ios::app);
  file << io::json_text(line) << "\n" << std::flush;
  if (!file) throw SystemError("cannot write", path_, errno);
}

std::vector<json> read_run_log(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  std::vector<json> log;
  std::string line, broken;
  for (int64_t count = 1; std::getline(in, line); ++count) {
    // Only once another line follows is it known that the broken one was not the last.
    if (!broken.empty()) throw FormatError(path, broken, "expected a JSON object");
    try {
      log.push_back(io::parse_json(line, path));
    } catch (const FormatError&) {
      broken = fmt::format("line {}", count);
      continue;
    }
    if (!log.back().is_object()) {
      log.pop_back();
      broken = fmt::format("line {}", count);
    }
  }
  if (in.bad()) throw SystemError("cannot read", path, EIO);
  return log;
}

}  // namespace schmidt::heal
