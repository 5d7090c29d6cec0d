#include "schmidt/io/record_log.h"

#include <cerrno>
#include <fstream>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/output_place.h"
#include "schmidt/io/json.h"

namespace schmidt::io {

namespace fs = std::filesystem;

WorkFolder RecordLog::prepare(const fs::path& folder, const std::string& work,
                              const std::string& what, bool force) {
  WorkFolder claimed(folder, work, [](const fs::path& f) { return !read(f).empty(); });
  if (claimed.holds() == WorkFolder::Holds::kOtherWork) {
    TORCH_CHECK_VALUE(force, "[output] ", folder.string(), " holds an unfinished ", what,
                      "; expected the same again (remove it, or force drops it)");
    remove_all_but(folder, {});
  }
  claimed.claim();
  return claimed;
}

bool RecordLog::is_own(const std::string& name) {
  constexpr size_t kFingerprint = 16;  // digits of the stamp
  const bool stamp = name.size() == kFingerprint &&
                     name.find_first_not_of("0123456789abcdef") == std::string::npos;
  return stamp || is_numbered(name, "records.");
}

RecordLog::RecordLog(fs::path folder, int64_t rank)
    : path_(std::move(folder) / fmt::format("records.{}", rank)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw SystemError("cannot write", path_, errno);
  // Ends what a killed run left half-written, so that it spoils no other line.
  if (::lseek(fd_, 0, SEEK_END) > 0 && ::write(fd_, "\n", 1) != 1) {
    throw SystemError("cannot write", path_, errno);
  }
}

RecordLog::~RecordLog() {
  if (fd_ >= 0) ::close(fd_);
}

std::map<int64_t, nlohmann::ordered_json> RecordLog::read(const fs::path& folder) {
  std::map<int64_t, nlohmann::ordered_json> records;
  for (const fs::path& entry : folder_entries(folder)) {
    if (!entry.filename().string().starts_with("records.") || !is_plain_file(entry)) continue;
    std::ifstream file(entry);
    for (std::string line; std::getline(file, line);) {
      const auto read = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!read.is_object() || !read.contains("number") || !read.contains("record")) continue;
      if (!read["number"].is_number_integer()) continue;
      records[read["number"].get<int64_t>()] = read["record"];
    }
  }
  return records;
}

void RecordLog::append(const std::vector<Entry>& entries) {
  std::string lines;
  for (const auto& [number, record] : entries) {
    lines += json_text(nlohmann::ordered_json{{"number", number}, {"record", record}}) + "\n";
  }
  // One write, so that a line is there or not but for a full disk or a crash.
  const ssize_t written = ::write(fd_, lines.data(), lines.size());
  if (written != static_cast<ssize_t>(lines.size())) {
    throw SystemError("cannot write", path_, written < 0 ? errno : ENOSPC);
  }
  if (::fdatasync(fd_) != 0) throw SystemError("cannot write", path_, errno);
}

}  // namespace schmidt::io
