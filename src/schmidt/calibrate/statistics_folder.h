#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "schmidt/base/held_folder.h"

namespace schmidt::calibrate {

/// Whose work a folder says that it holds; empty where it says nothing or does not exist.
/// Throws c10::ValueError for a folder of something else.
std::string fingerprint_in(const std::filesystem::path& folder);

/// Throws c10::ValueError if a folder for statistics holds anything else, or if another process
/// collects into it now. A new one is fine.
void check_statistics_folder(const std::filesystem::path& folder);

/// A folder that statistics are collected in. All workers have one; the first locks the folder
/// and writes. Collecting takes it alone, finished statistics are shared.
/// Where the first ends with nothing that is worth going on from, it empties the folder.
class StatisticsFolder {
 public:
  /// Makes the folder where it is missing. The files of so many `blocks` finish the work with
  /// that fingerprint.
  /// Throws c10::ValueError as check_statistics_folder, SystemError.
  StatisticsFolder(std::filesystem::path folder, std::string fingerprint, int64_t blocks,
                   bool first);
  ~StatisticsFolder();
  StatisticsFolder(const StatisticsFolder&) = delete;
  StatisticsFolder& operator=(const StatisticsFolder&) = delete;

  /// Whether the folder holds this work, or none that is worth going on from.
  bool fits() const;

  /// The model's fingerprint that finished statistics in a folder were made from, and their own.
  /// Throws c10::ValueError where the folder holds none, or unfinished ones.
  struct Finished {
    std::string model, fingerprint;
  };
  static Finished finished(const std::filesystem::path& folder, int64_t blocks);

  /// Drops other work and says whose the folder is, where it does not say so already.
  void begin(int64_t tokens, const std::string& model) const;

  /// The lock, which others may share from here on; none of a worker that has none, and where
  /// finished statistics can be read alone.
  std::optional<FileLock> share() const;

 private:
  std::filesystem::path folder_;
  std::string fingerprint_;
  bool collects_ = false;  // as the first
  MadeFolders made_;
  std::optional<FileLock> lock_;
};

}  // namespace schmidt::calibrate
