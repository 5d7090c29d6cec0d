#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace schmidt {

/// A lock on a file, which is made where it is missing. It ends with the last object that
/// holds it or with the process, however that ends. One process may take it several times.
///
/// It is advice: it keeps out those who ask for it. Where a file system has no locks, as some
/// network file systems, everyone gets it.
class FileLock {
 public:
  /// Several processes may hold a shared lock, one an exclusive one.
  enum class Mode { kShared, kExclusive };

  /// None where another process holds it, in a mode that leaves no room for this one.
  /// Throws SystemError if the file cannot be made.
  static std::optional<FileLock> take(const std::filesystem::path& file, Mode mode);

  /// Who has the exclusive lock, or had it last: "process 12 on host".
  static std::string holder(const std::filesystem::path& file);

  /// Lets others share an exclusive lock.
  void share() const;

  /// Whether the file at that path is still the one that is locked.
  bool is_of(const std::filesystem::path& file) const;

 private:
  struct Held;
  explicit FileLock(std::shared_ptr<Held> held) : held_(std::move(held)) {}

  std::shared_ptr<Held> held_;
};

}  // namespace schmidt
