#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

namespace schmidt {

/// A file that appears whole or not at all: bytes go to a temporary file beside
/// `path`, `commit` flushes them to the disk and renames it into place. Without
/// a commit the destructor removes the temporary file.
class AtomicFile {
 public:
  /// Throws SystemError if the temporary file cannot be made.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. Throws SystemError, a full disk included.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Writes at `offset` from the start; where `write` appends does not move.
  void write_at(uint64_t offset, const void* data, size_t bytes);

  /// fsync, rename over `path`, fsync of the folder. Throws SystemError.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

/// Writes a whole file by AtomicFile.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// fsync of a folder, so that renames inside it are durable.
void sync_folder(const std::filesystem::path& folder);

/// A folder that appears whole or not at all. Files are made under `path()`, a
/// sibling named OUT.partial; `commit` renames it to OUT.
/// A partial folder that a killed run left is kept and found again, so that long
/// work can resume in it; `discard` or the caller removes it.
class AtomicFolder {
 public:
  /// Throws c10::ValueError if `out` exists and `force` is false.
  /// Throws SystemError if the partial folder cannot be made.
  AtomicFolder(std::filesystem::path out, bool force);
  ~AtomicFolder();  ///< removes a partial folder in which nothing has been made
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  /// The partial folder.
  const std::filesystem::path& path() const { return partial_; }

  /// Flushes and renames. An existing `out` (force) changes places with it in one step and is
  /// removed last: at any moment the old or the new folder is there. Where a file system cannot
  /// do that, a kill in between leaves the old one as OUT.old and a number.
  void commit();

  /// Removes the partial folder and all in it.
  void discard();

 private:
  std::filesystem::path out_;
  std::filesystem::path partial_;
};

}  // namespace schmidt
