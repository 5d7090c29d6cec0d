#include "schmidt/base/held_folder.h"

#include <cerrno>
#include <optional>
#include <system_error>

#include <c10/util/Exception.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

/// `folder`, where nothing but work of its kind lies in it.
fs::path checked(fs::path folder, const OwnName& own) {
  const auto foreign =
      foreign_name(folder, [&](const std::string& name) { return name == kLockFile || own(name); });
  TORCH_CHECK_VALUE(!foreign, "[output] ", folder.string(), " holds ", foreign.value_or(""),
                    ", which is no unfinished work of schmidt; expected a folder for it alone");
  return folder;
}

FileLock taken(const fs::path& folder) {
  const auto lock = FileLock::take(folder / kLockFile, FileLock::Mode::kExclusive);
  TORCH_CHECK_VALUE(lock, "[output] ", folder.string(), " is in use by ",
                    FileLock::holder(folder / kLockFile), "; expected one run at a time");
  return *lock;
}

}  // namespace

bool holds_anything(const fs::path& folder) {
  return foreign_name(folder, [](const std::string& name) { return name == kLockFile; })
      .has_value();
}

MadeFolders::MadeFolders(const fs::path& folder) {
  std::vector<fs::path> missing;  // the innermost first
  std::error_code error;
  for (fs::path at = folder; !at.empty() && !fs::exists(at, error); at = at.parent_path()) {
    missing.push_back(at);
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (::mkdir(at->c_str(), 0777) == 0) {
      made_.push_back(*at);
    } else if (errno != EEXIST) {
      const int code = errno;
      while (!made_.empty()) {
        ::rmdir(made_.back().c_str());
        made_.pop_back();
      }
      throw SystemError("cannot make folder", folder, code);
    }
  }
  if (!fs::is_directory(folder, error)) throw SystemError("cannot make folder", folder, ENOTDIR);
}

MadeFolders::~MadeFolders() {
  for (auto at = made_.rbegin(); at != made_.rend(); ++at) ::rmdir(at->c_str());
}

HeldFolder::HeldFolder(fs::path folder, const OwnName& own)
    : folder_(checked(std::move(folder), own)), made_(folder_), lock_(taken(folder_)) {}

HeldFolder::~HeldFolder() {
  std::error_code error;
  const fs::path lock = folder_ / kLockFile;
  if (!lock_.is_of(lock)) return;  // it has gone to its place
  for (fs::directory_iterator entries(folder_, error), end; !error && entries != end;
       entries.increment(error)) {
    if (entries->path() != lock) return;
  }
  fs::remove(lock, error);
  ::rmdir(folder_.c_str());
}

void HeldFolder::remove() const {
  if (!lock_.is_of(folder_ / kLockFile)) return;
  // The lock goes last: nobody else takes the folder before it is empty.
  remove_all_but(folder_, folder_ / kLockFile);
  remove_tree(folder_);
}

}  // namespace schmidt
