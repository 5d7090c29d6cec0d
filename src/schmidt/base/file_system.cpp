#include "schmidt/base/file_system.h"

#include <algorithm>
#include <system_error>

#include "schmidt/base/format_error.h"

namespace schmidt {

namespace fs = std::filesystem;

namespace {

void check(const std::error_code& error, std::string_view action, const fs::path& path) {
  if (error) throw SystemError(action, path, error.value());
}

fs::file_status status_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::status_known(status)) check(error, "cannot read", path);  // what is absent is known
  return status;
}

}  // namespace

std::string last_name(const fs::path& path) {
  const fs::path whole = path.lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

bool path_exists(const fs::path& path) { return fs::exists(status_of(path)); }

bool entry_exists(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::status_known(status)) check(error, "cannot read", path);
  return fs::exists(status);
}

bool is_folder(const fs::path& path) { return fs::is_directory(status_of(path)); }

bool is_plain_file(const fs::path& path) { return fs::is_regular_file(status_of(path)); }

bool is_empty_folder(const fs::path& folder) {
  std::error_code error;
  const bool empty = fs::is_empty(folder, error);
  check(error, "cannot read", folder);
  return empty;
}

std::vector<fs::path> folder_entries(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  // Without increment(error), the loop's ++ would throw.
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  check(error, "cannot read", folder);
  std::ranges::sort(entries);
  return entries;
}

uint64_t bytes_of_file(const fs::path& file) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(file, error);
  check(error, "cannot read", file);
  return bytes;
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(error, "cannot make folder", folder);
}

void remove_file(const fs::path& file) {
  std::error_code error;
  fs::remove(file, error);
  check(error, "cannot remove", file);
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  check(error, "cannot remove", path);
}

void move_path(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  check(error, "cannot rename to", to);
}

void copy_plain_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, error);
  check(error, "cannot write", to);
}

fs::path without_links(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::canonical(path, error);
  check(error, "cannot open", path);
  return real;
}

}  // namespace schmidt
