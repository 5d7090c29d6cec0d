#include "schmidt/base/output_place.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "schmidt/base/format_error.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as many as Linux follows

bool is_missing(const std::error_code& error) {
  return error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
}

/// Device and inode; none where nothing is.
std::optional<struct stat> identity(const fs::path& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) == 0) return s;
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  throw SystemError("cannot look at", path, errno);
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Whether `path`, resolved, is `place` or lies in it.
bool lies_in(const fs::path& path, const struct stat& place) {
  for (fs::path at = path;; at = at.parent_path()) {
    const auto here = identity(at);
    if (here && same(*here, place)) return true;
    if (at == at.parent_path()) return false;
  }
}

/// Where an input is and, of a folder, where the links in it lead.
std::vector<fs::path> all_of(const fs::path& input) {
  std::error_code error;
  const fs::path resolved = fs::canonical(input, error);
  if (error) return {};  // whoever reads it says so
  std::vector<fs::path> all = {resolved};
  for (fs::directory_iterator entries(resolved, error), end; !error && entries != end;
       entries.increment(error)) {
    std::error_code dangling;
    if (!entries->is_symlink(dangling)) continue;
    const fs::path target = fs::canonical(entries->path(), dangling);
    if (!dangling) all.push_back(target);
  }
  return all;
}

}  // namespace

fs::path resolved_place(const fs::path& path) {
  TORCH_CHECK_VALUE(!path.empty(), "[output] expected a name, got an empty one");
  std::error_code error;
  fs::path place = fs::absolute(path, error);
  if (error) throw SystemError("cannot look at", path, error.value());
  for (int links = 0;; ++links) {
    while (!place.has_filename() && place.has_relative_path()) place = place.parent_path();
    const fs::file_status status = fs::symlink_status(place, error);
    if (error && !is_missing(error)) throw SystemError("cannot look at", path, error.value());
    if (!fs::is_symlink(status)) break;
    if (links == kMostLinks) throw SystemError("cannot look at", path, ELOOP);
    fs::path target = fs::read_symlink(place, error);
    if (error) throw SystemError("cannot look at", path, error.value());
    place = place.parent_path() / target;
  }
  place = fs::weakly_canonical(place, error);
  if (error) throw SystemError("cannot look at", path, error.value());
  return place;
}

fs::path with_ending(const fs::path& path, std::string_view ending) {
  fs::path longer = path;
  longer += ending;
  return longer;
}

void check_apart(const std::vector<fs::path>& places, const std::vector<InputPath>& inputs) {
  for (const fs::path& name : places) {
    const fs::path place = resolved_place(name);
    const auto there = identity(place);
    if (!there) continue;
    for (const InputPath& input : inputs) {
      const std::vector<fs::path> all = all_of(input.path);
      for (const fs::path& path : all) {
        if (!lies_in(path, *there)) continue;
        const auto read = identity(path);
        const bool equal = read && same(*read, *there) && path == all.front();
        TORCH_CHECK_VALUE(false, "[output] ", place.string(), " exists and ",
                          equal                 ? "is "
                          : path == all.front() ? "holds "
                                                : "is or holds a part of ",
                          input.what, " (", input.path.string(),
                          "); expected a place apart from all that is read");
      }
    }
  }
}

void check_apart_from_each_other(const std::vector<fs::path>& places) {
  for (size_t i = 0; i < places.size(); ++i) {
    for (size_t k = 0; k < places.size(); ++k) {
      const fs::path inner = resolved_place(places[i]), outer = resolved_place(places[k]);
      const auto [end, rest] =
          std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
      TORCH_CHECK_VALUE(i == k || end != outer.end(), "[output] expected places apart from each ",
                        "other, got ", inner.string(), " and ", outer.string());
    }
  }
}

void check_can_be_replaced(const fs::path& folder) {
  const auto there = identity(folder);
  if (!there) return;
  std::error_code error;
  const fs::path working = fs::current_path(error);
  TORCH_CHECK_VALUE(error || !lies_in(working, *there), "[output] ", folder.string(),
                    " is or holds the working directory; expected another folder");
  struct statx mounted {};
  const bool known = ::statx(AT_FDCWD, folder.c_str(), 0, STATX_INO, &mounted) == 0;
  TORCH_CHECK_VALUE(!known || (mounted.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0, "[output] ",
                    folder.string(), " is the root of a file system; expected a folder in it");
}

std::optional<std::string> foreign_name(const fs::path& folder, const OwnName& own) {
  std::optional<std::string> first;
  std::error_code error;
  for (fs::directory_iterator entries(folder, error), end; !error && entries != end;
       entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (!own(name) && (!first || name < *first)) first = name;
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw SystemError("cannot read", folder, error.value());
  }
  return first;
}

bool is_numbered(std::string_view name, std::string_view beginning, std::string_view ending) {
  if (!name.starts_with(beginning)) return false;
  name.remove_prefix(beginning.size());
  if (!name.ends_with(ending)) return false;
  name.remove_suffix(ending.size());
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace schmidt
