#include "schmidt/base/atomic_file.h"

#include <cerrno>
#include <cstdio>
#include <string>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"

namespace schmidt {
namespace fs = std::filesystem;

namespace {

constexpr const char* kTemporary = ".tmp";  // and the number of the process

void move_to_place(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw SystemError("cannot rename to", to, errno);
}

bool holds_something(const fs::path& folder) {
  return foreign_name(folder, [](const std::string&) { return false; }).has_value();
}

/// Where `out` leads; throws unless it is free there or may be replaced.
fs::path free_place(const fs::path& out, bool force, const FolderKind& kind) {
  fs::path place = resolved_place(out);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(place, error);
  if (!fs::exists(status)) return place;
  TORCH_CHECK_VALUE(fs::is_directory(status), "[output] ", place.string(),
                    " exists and is no folder; expected a new or an empty folder");
  check_can_be_replaced(place);
  if (!holds_something(place)) return place;
  TORCH_CHECK_VALUE(force, "[output] ", place.string(),
                    " exists; expected a new or an empty folder (force replaces what schmidt "
                    "wrote)");
  const auto foreign = kind.foreign(place);
  TORCH_CHECK_VALUE(!foreign, "[output] ", place.string(), " holds ", foreign.value_or(""),
                    "; expected nothing but what schmidt wrote, which alone is replaced");
  return place;
}

}  // namespace

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  temporary_ = path_;
  temporary_ += kTemporary + std::to_string(::getpid());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) throw SystemError("cannot write", path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void AtomicFile::write(const void* data, size_t bytes) {
  const auto* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, bytes);
    if (n < 0) {
      if (errno == EINTR) continue;
      throw SystemError("cannot write", path_, errno);
    }
    p += n;
    bytes -= static_cast<size_t>(n);
  }
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const auto* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd_, p, bytes, static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      throw SystemError("cannot write", path_, errno);
    }
    p += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) throw SystemError("cannot write", path_, errno);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) throw SystemError("cannot write", path_, errno);
  move_to_place(temporary_, path_);
  temporary_.clear();
  sync_folder(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

std::string whole_name(const std::string& name) { return name.substr(0, name.rfind(kTemporary)); }

void write_file_atomically(const fs::path& path, std::string_view content) {
  if (content.empty()) {  // whole as soon as it is there: a kill leaves no temporary file
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) throw SystemError("cannot write", path, errno);
    ::close(fd);
    sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
    return;
  }
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw SystemError("cannot open", folder, errno);
  const int failed = ::fsync(fd) != 0 ? errno : 0;
  ::close(fd);
  if (failed != 0 && failed != EINVAL) throw SystemError("cannot flush", folder, failed);
}

fs::path partial_folder(const fs::path& out) {
  return with_ending(resolved_place(out), ".partial");
}

AtomicFolder::AtomicFolder(const fs::path& out, bool force, const FolderKind& kind)
    : out_(free_place(out, force, kind)),
      force_(force),
      kind_(kind),
      held_(partial_folder(out_), kind.unfinished) {}

void AtomicFolder::commit() {
  free_place(out_, force_, kind_);
  sync_folder(path());
  fs::path replaced;
  std::optional<FileLock> lock;  // of what is replaced, until it is gone
  if (!holds_something(out_)) {
    move_to_place(path(), out_);
  } else {
    lock = FileLock::take(out_ / kLockFile, FileLock::Mode::kExclusive);
    replaced = path();
    if (::renameat2(AT_FDCWD, path().c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) != 0) {
      if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
        throw SystemError("cannot rename to", out_, errno);
      }
      replaced = with_ending(out_, ".old" + std::to_string(::getpid()));
      move_to_place(out_, replaced);
      move_to_place(path(), out_);
    }
  }
  sync_folder(out_.parent_path());
  std::error_code error;
  fs::remove(out_ / kLockFile, error);
  if (replaced.empty()) return;
  try {
    remove_all_but(replaced, {});
    fs::remove_all(replaced);
  } catch (const fs::filesystem_error& e) {
    throw SystemError("cannot remove what was replaced,", replaced, e.code().value());
  }
}

}  // namespace schmidt
