#pragma once

#include <filesystem>
#include <vector>

#include "schmidt/base/file_lock.h"
#include "schmidt/base/output_place.h"

namespace schmidt {

/// The file in a folder whose lock stands for the folder.
constexpr const char* kLockFile = ".schmidt.lock";

/// Whether a folder holds anything but its lock.
bool holds_anything(const std::filesystem::path& folder);

/// Folders that were missing, made on the way to one; what of them is empty at the end goes.
class MadeFolders {
 public:
  /// Throws SystemError.
  explicit MadeFolders(const std::filesystem::path& folder);
  ~MadeFolders();
  MadeFolders(MadeFolders&&) noexcept = default;
  MadeFolders& operator=(MadeFolders&&) = delete;

 private:
  std::vector<std::filesystem::path> made_;  // the outermost first
};

/// A folder of unfinished work, which one run at a time holds: another process cannot, until
/// this one lets go of it or ends. A process may hold it several times.
/// The folder goes at the end where nothing was made in it.
class HeldFolder {
 public:
  /// Makes the folder where it is missing. `own` knows the names of what such work leaves.
  /// Throws c10::ValueError if another process holds it or something else lies in it, SystemError.
  HeldFolder(std::filesystem::path folder, const OwnName& own);
  ~HeldFolder();
  HeldFolder(const HeldFolder&) = delete;
  HeldFolder& operator=(const HeldFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }
  const FileLock& lock() const { return lock_; }

  /// Removes all that lies in it, the folder too.
  void remove() const;

 private:
  std::filesystem::path folder_;
  MadeFolders made_;
  FileLock lock_;
};

}  // namespace schmidt
