#include "schmidt/base/file_lock.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

using Identity = std::pair<dev_t, ino_t>;

std::optional<Identity> identity(const fs::path& file) {
  struct stat s {};
  if (::stat(file.c_str(), &s) != 0) return std::nullopt;
  return Identity(s.st_dev, s.st_ino);
}

/// 0, or an errno value.
int try_lock(int fd, int operation) {
  int result;
  do {
    result = ::flock(fd, operation | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

void sign(int fd) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = fmt::format("process {} on {}\n", ::getpid(), host.data());
  // For messages alone: a full disk is no reason to fail here.
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) < 0) errno = 0;
}

}  // namespace

struct FileLock::Held {
  Held(int fd_, Identity identity_) : fd(fd_), identity(identity_) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() { ::close(fd); }

  // Of this process, by file: a second lock would otherwise stand in the way of the first.
  static std::map<Identity, std::weak_ptr<Held>>& all() {
    static auto* const map = new std::map<Identity, std::weak_ptr<Held>>;
    return *map;
  }
  static std::mutex& mutex() {
    static std::mutex value;
    return value;
  }

  int fd;
  Identity identity;
  bool exclusive = false;
};

std::optional<FileLock> FileLock::take(const fs::path& file, Mode mode) {
  const std::lock_guard guard(Held::mutex());
  while (true) {
    const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) throw SystemError("cannot write", file, errno);
    struct stat opened {};
    ::fstat(fd, &opened);
    const Identity id(opened.st_dev, opened.st_ino);
    auto fresh = std::make_shared<Held>(fd, id);
    const auto known = Held::all()[id].lock();
    const auto held = known != nullptr ? known : fresh;
    const bool exclusive = held->exclusive || mode == Mode::kExclusive;
    if (known == nullptr || exclusive != held->exclusive) {
      const int error = try_lock(held->fd, exclusive ? LOCK_EX : LOCK_SH);
      if (error == EWOULDBLOCK) {
        // A lock that could not become another one may be gone.
        if (known != nullptr) try_lock(held->fd, LOCK_SH);
        return std::nullopt;
      }
      // Any other error: a file system without locks.
    }
    // Whoever held it may have removed the file meanwhile.
    if (identity(file) != id) continue;
    held->exclusive = exclusive;
    if (exclusive) sign(held->fd);
    Held::all()[id] = held;
    return FileLock(held);
  }
}

std::string FileLock::holder(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line.starts_with("process ") ? line : "another process";
}

void FileLock::share() const {
  const std::lock_guard guard(Held::mutex());
  try_lock(held_->fd, LOCK_SH);
  held_->exclusive = false;
}

bool FileLock::is_of(const fs::path& file) const { return identity(file) == held_->identity; }

}  // namespace schmidt
