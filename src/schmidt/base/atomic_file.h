#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "schmidt/base/held_folder.h"

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

/// The name of the file that a temporary one was to become, which a kill may have left
/// half-written; other names are their own.
std::string whole_name(const std::string& name);

/// Writes a whole file by AtomicFile.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// fsync of a folder, so that renames inside it are durable.
void sync_folder(const std::filesystem::path& folder);

/// What tells one kind of written folder from other people's.
struct FolderKind {
  /// What a folder holds, or lacks, that keeps it from being one of this kind: "notes.txt".
  std::function<std::optional<std::string>(const std::filesystem::path& folder)> foreign;
  OwnName unfinished;  ///< whether a name may stand in the folder of unfinished work
};

/// Where the unfinished work of a folder lies: OUT.partial, beside what OUT stands for.
std::filesystem::path partial_folder(const std::filesystem::path& out);

/// A folder that appears whole or not at all. Files are made under `path()`, a
/// sibling named OUT.partial; `commit` renames it to OUT. A link as OUT is followed.
/// A partial folder that a killed run left is kept and found again, so that long
/// work can resume in it; the caller removes it. No other process gets it meanwhile.
class AtomicFolder {
 public:
  /// Throws c10::ValueError if something lies at `out`, an empty folder aside, and `force` is
  /// false; if with `force` it is no folder of that kind; if it cannot be replaced; if another
  /// process works in the partial folder, or other things than unfinished work lie there.
  /// Throws SystemError if the partial folder cannot be made.
  AtomicFolder(const std::filesystem::path& out, bool force, const FolderKind& kind);

  /// The partial folder; it goes at the end where nothing has been made in it.
  const std::filesystem::path& path() const { return held_.path(); }

  /// Flushes and renames. An existing `out` (force) changes places with it in one step and is
  /// removed last: at any moment the old or the new folder is there. Where a file system cannot
  /// do that, a kill in between leaves the old one as OUT.old and a number.
  /// Throws c10::ValueError if meanwhile something came to `out` that may not be replaced.
  void commit();

 private:
  std::filesystem::path out_;
  bool force_;
  FolderKind kind_;
  HeldFolder held_;
};

}  // namespace schmidt
