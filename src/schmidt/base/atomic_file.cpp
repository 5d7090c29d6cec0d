#include "schmidt/base/atomic_file.h"

#include <cerrno>
#include <cstdio>
#include <string>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

namespace schmidt {
namespace fs = std::filesystem;

namespace {

void move_to_place(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw SystemError("cannot rename to", to, errno);
}

}  // namespace

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  temporary_ = path_;
  temporary_ += ".tmp" + std::to_string(::getpid());
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

AtomicFolder::AtomicFolder(fs::path out, bool force) : out_(std::move(out)) {
  if (out_.filename().empty()) out_ = out_.parent_path();  // "out/" names the same folder
  TORCH_CHECK_VALUE(!out_.empty(), "[output] expected a folder name, got an empty one");
  TORCH_CHECK_VALUE(force || !fs::exists(fs::symlink_status(out_)), "[output] ", out_.string(),
                    " exists; expected a new folder (--force replaces it)");
  partial_ = out_;
  partial_ += ".partial";
  std::error_code ec;
  fs::create_directories(partial_, ec);
  if (ec) throw SystemError("cannot make folder", partial_, ec.value());
}

AtomicFolder::~AtomicFolder() {
  ::rmdir(partial_.c_str());  // which leaves a folder that holds something
}

void AtomicFolder::commit() {
  sync_folder(partial_);
  fs::path replaced;
  if (!fs::exists(fs::symlink_status(out_))) {
    move_to_place(partial_, out_);
  } else if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) ==
             0) {
    replaced = partial_;
  } else {  // as a file system without exchange answers
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
      throw SystemError("cannot rename to", out_, errno);
    }
    replaced = out_;
    replaced += ".old" + std::to_string(::getpid());
    move_to_place(out_, replaced);
    move_to_place(partial_, out_);
  }
  sync_folder(out_.has_parent_path() ? out_.parent_path() : fs::path("."));
  if (!replaced.empty()) fs::remove_all(replaced);
}

void AtomicFolder::discard() { fs::remove_all(partial_); }

}  // namespace schmidt
