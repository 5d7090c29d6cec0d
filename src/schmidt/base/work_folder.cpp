#include "schmidt/base/work_folder.h"

#include <system_error>
#include <vector>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/format_error.h"

namespace schmidt {

namespace fs = std::filesystem;

void remove_all_but(const fs::path& folder, const fs::path& kept) {
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path() != kept) others.push_back(entry.path());
  }
  for (const fs::path& path : others) fs::remove_all(path);
}

WorkFolder::Holds WorkFolder::holds() const {
  if (!fs::exists(folder_) || fs::is_empty(folder_)) return Holds::kNothing;
  return fs::exists(stamp_) ? Holds::kThisWork : Holds::kOtherWork;
}

WorkFolder::Holds WorkFolder::holds_in_own_folder() const {
  if (!fs::exists(folder_) && !fs::is_empty(folder_.parent_path())) return Holds::kOtherWork;
  return holds();
}

void WorkFolder::claim() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw SystemError("cannot make folder", folder_, error.value());
  write_file_atomically(stamp_, "");
}

}  // namespace schmidt
