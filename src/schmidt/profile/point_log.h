#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/base/work_folder.h"

namespace schmidt::profile {

/// The finished points of a profile that is under way: a folder with a file for each
/// rank, a line for each point, appended and flushed. A line that a killed run left
/// half-written does not count. Any number of ranks may take up what others began.
class PointLog {
 public:
  /// `work` names the model, text and options; what other work left is refused, or
  /// dropped if `force`. Only one rank `prepares`, before the others open the log, and keeps
  /// what it gets: at its end a folder without a point is emptied.
  /// Throws c10::ValueError, SystemError.
  [[nodiscard]] static WorkFolder prepare(const std::filesystem::path& folder,
                                          const std::string& work, bool force);

  /// Whether a name may stand in the folder.
  static bool is_own(const std::string& name);
  PointLog(std::filesystem::path folder, int64_t rank);
  ~PointLog();
  PointLog(const PointLog&) = delete;
  PointLog& operator=(const PointLog&) = delete;

  /// All ranks' finished points by their number.
  static std::map<int64_t, nlohmann::ordered_json> read(const std::filesystem::path& folder);

  /// On the disk when it returns. Throws SystemError.
  void append(int64_t number, const nlohmann::ordered_json& point);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace schmidt::profile
