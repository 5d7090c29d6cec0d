#include "schmidt/base/work_folder.h"

#include <exception>
#include <system_error>
#include <vector>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"

namespace schmidt {

namespace fs = std::filesystem;

void remove_all_but(const fs::path& folder, const fs::path& kept) {
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path() != kept && entry.path().filename() != kLockFile) {
      others.push_back(entry.path());
    }
  }
  for (const fs::path& path : others) remove_tree(path);
}

WorkFolder::~WorkFolder() {
  if (!made_) return;
  try {
    if (!path_exists(stamp_) || has_results_(folder_)) return;
    remove_all_but(folder_, {});
    std::error_code ignored;
    fs::remove(folder_, ignored);    // unless it is locked
  } catch (const std::exception&) {  // what stays is no work to anyone
  }
}

WorkFolder::Holds WorkFolder::holds() const {
  if (!path_exists(folder_) || !has_results_(folder_)) return Holds::kNothing;
  return path_exists(stamp_) ? Holds::kThisWork : Holds::kOtherWork;
}

WorkFolder::Holds WorkFolder::holds_in_own_folder() const {
  if (!path_exists(folder_) && holds_anything(folder_.parent_path())) return Holds::kOtherWork;
  return holds();
}

void WorkFolder::claim() {
  if (path_exists(stamp_)) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw SystemError("cannot make folder", folder_, error.value());
  if (!has_results_(folder_)) remove_all_but(folder_, {});
  write_file_atomically(stamp_, "");
  made_ = true;
}

}  // namespace schmidt
