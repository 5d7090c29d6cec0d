#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/base/work_folder.h"

namespace schmidt::io {

/// The finished pieces of a run that is under way, each a number and a record: a folder with
/// a file for each rank, a line for each piece, appended and flushed. A line that a killed run
/// left half-written does not count. Any number of ranks may take up what others began.
class RecordLog {
 public:
  using Entry = std::pair<int64_t, nlohmann::ordered_json>;

  /// `work` names the model, data and options, `what` says what it is ("profile of another
  /// model, text or recipe"); what other work left is refused, or dropped if `force`. Only one
  /// rank `prepares`, before the others open the log, and keeps what it gets: at its end a
  /// folder without a record is emptied.
  /// Throws c10::ValueError, SystemError.
  [[nodiscard]] static WorkFolder prepare(const std::filesystem::path& folder,
                                          const std::string& work, const std::string& what,
                                          bool force);

  /// Whether a name may stand in the folder.
  static bool is_own(const std::string& name);
  RecordLog(std::filesystem::path folder, int64_t rank);
  ~RecordLog();
  RecordLog(const RecordLog&) = delete;
  RecordLog& operator=(const RecordLog&) = delete;

  /// All ranks' records by their number.
  static std::map<int64_t, nlohmann::ordered_json> read(const std::filesystem::path& folder);

  /// On the disk when it returns. Throws SystemError.
  void append(int64_t number, const nlohmann::ordered_json& record) { append({{number, record}}); }
  void append(const std::vector<Entry>& entries);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace schmidt::io
