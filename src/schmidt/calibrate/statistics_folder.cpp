#include "schmidt/calibrate/statistics_folder.h"

#include <exception>
#include <system_error>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/io/json.h"

namespace schmidt::calibrate {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "statistics.json";
constexpr const char* kUnfinished = "unfinished";  // a folder of activations

/// Whether a run would go on from it: a finished block, or a place that was saved.
bool holds_work(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (is_numbered(entry.path().filename().string(), "block.", ".safetensors")) return true;
  }
  for (const auto& entry : fs::directory_iterator(folder / kUnfinished, error)) {
    if (entry.path().extension() == ".json") return true;
  }
  return false;
}

bool is_own(const std::string& name) {
  const std::string whole = whole_name(name);
  return name == kLockFile || name == kUnfinished || whole == kState ||
         is_numbered(whole, "block.", ".safetensors");
}

/// Finished statistics may lie where nothing can be written: then without a lock.
std::optional<FileLock> lock_folder(const fs::path& folder, bool finished) {
  const fs::path file = folder / kLockFile;
  std::optional<FileLock> lock;
  try {
    lock = FileLock::take(file, finished ? FileLock::Mode::kShared : FileLock::Mode::kExclusive);
  } catch (const SystemError&) {
    if (!finished) throw;
    return std::nullopt;
  }
  TORCH_CHECK_VALUE(lock, "[statistics] ", folder.string(), " is in use by ",
                    FileLock::holder(file), "; expected one run at a time to collect there");
  return lock;
}

/// `folder`, where nothing but statistics lies in it.
fs::path checked(fs::path folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return folder;
  TORCH_CHECK_VALUE(fs::is_directory(folder, error), "[statistics] ", folder.string(),
                    " exists and is no folder; expected a folder for them alone");
  const auto foreign = foreign_name(folder, is_own);
  TORCH_CHECK_VALUE(!foreign, "[statistics] ", folder.string(), " holds ", foreign.value_or(""),
                    "; expected a folder for them alone");
  fingerprint_in(folder);
  return folder;
}

fs::path block_file(const fs::path& folder, int64_t block) {
  return folder / fmt::format("block.{}.safetensors", block);
}

}  // namespace

std::string fingerprint_in(const fs::path& folder) {
  const fs::path path = folder / kState;
  if (!path_exists(path)) return {};
  const nlohmann::json json = io::read_json_object(path);
  TORCH_CHECK_VALUE(json.contains("fingerprint") && json["fingerprint"].is_string(),
                    "[statistics] ", path.string(),
                    " is not of statistics; expected a folder for them alone");
  return json["fingerprint"].get<std::string>();
}

void check_statistics_folder(const fs::path& folder) {
  if (path_exists(checked(folder) / kLockFile)) lock_folder(folder, /*finished=*/true);
}

StatisticsFolder::StatisticsFolder(fs::path folder, std::string fingerprint, int64_t blocks,
                                   bool first)
    : folder_(first ? checked(std::move(folder)) : std::move(folder)),
      fingerprint_(std::move(fingerprint)),
      made_(folder_) {
  if (!first) return;
  bool finished = fingerprint_in(folder_) == fingerprint_;
  for (int64_t i = 0; i < blocks && finished; ++i) {
    finished = path_exists(block_file(folder_, i));
  }
  lock_ = lock_folder(folder_, finished);
  collects_ = !finished;
}

StatisticsFolder::~StatisticsFolder() {
  if (!collects_ || holds_work(folder_)) return;
  try {
    remove_all_but(folder_, {});
    fs::remove(folder_ / kLockFile);
  } catch (const std::exception&) {  // what stays is no work to anyone
  }
}

bool StatisticsFolder::fits() const {
  return fingerprint_in(folder_) == fingerprint_ || !holds_work(folder_);
}

void StatisticsFolder::begin(int64_t tokens, const std::string& model) const {
  if (fingerprint_in(folder_) == fingerprint_) return;
  remove_all_but(folder_, {});
  const nlohmann::json state = {
      {"fingerprint", fingerprint_}, {"model", model}, {"tokens", tokens}};
  write_file_atomically(folder_ / kState, io::json_text(state));
}

StatisticsFolder::Finished StatisticsFolder::finished(const fs::path& folder, int64_t blocks) {
  TORCH_CHECK_VALUE(!fingerprint_in(folder).empty(), "[statistics] expected statistics in ",
                    folder.string(), ", got none");
  for (int64_t i = 0; i < blocks; ++i) {
    TORCH_CHECK_VALUE(path_exists(block_file(folder, i)), "[statistics] ", folder.string(),
                      " is unfinished, or of a model of fewer blocks; expected all of ", blocks,
                      " blocks");
  }
  const nlohmann::json json = io::read_json_object(folder / kState);
  return {json.value("model", ""), fingerprint_in(folder)};
}

std::optional<FileLock> StatisticsFolder::share() const {
  if (lock_) lock_->share();
  return lock_;
}

}  // namespace schmidt::calibrate
