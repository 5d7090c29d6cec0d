#include "schmidt/heal/run_log.h"

#include <cerrno>
#include <fstream>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"

namespace schmidt::heal {

RunLog::RunLog(std::filesystem::path path) : path_(std::move(path)) {
  const std::ofstream file(path_, std::ios::app);
  if (!file) throw SystemError("cannot write", path_, errno);
}

void RunLog::rewind(int64_t step) {
  std::string kept;
  for (const nlohmann::json& line : read_run_log(path_)) {
    if (!line.contains("step") || line["step"] <= step) kept += line.dump() + "\n";
  }
  write_file_atomically(path_, kept);
}

void RunLog::write(const nlohmann::json& line) {
  std::ofstream file(path_, std::ios::app);
  file << line.dump() << "\n" << std::flush;
  if (!file) throw SystemError("cannot write", path_, errno);
}

std::vector<nlohmann::json> read_run_log(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw SystemError("cannot read", path, errno);
  std::vector<nlohmann::json> lines;
  std::string line;
  while (std::getline(file, line)) {
    if (file.eof() && line.empty()) break;
    const bool unfinished = file.eof();  // no end of line
    nlohmann::json value = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!value.is_object()) {
      if (unfinished) break;
      throw FormatError(path, fmt::format("line {}", lines.size() + 1), "expected a JSON object");
    }
    lines.push_back(std::move(value));
  }
  return lines;
}

}  // namespace schmidt::heal
