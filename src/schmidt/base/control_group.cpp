#include "schmidt/base/control_group.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace schmidt {
namespace {

namespace fs = std::filesystem;

// Version 1 says "no limit" by a number near 2^63.
constexpr int64_t kUnlimited = int64_t{1} << 60;

/// Names of what is read, which differ between the versions.
struct Files {
  const char* limit;
  const char* usage;
  const char* cache;  ///< a line of memory.stat: what of the usage can be had back at once
};

constexpr Files kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                             "total_inactive_file"};
constexpr Files kVersion2 = {"memory.max", "memory.current", "inactive_file"};

std::optional<int64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  int64_t value = 0;
  if (!(in >> value)) return std::nullopt;  // "max" too
  return value;
}

int64_t stat_of(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string name;
  for (int64_t value = 0; in >> name >> value;) {
    if (name == key) return value;
  }
  return 0;
}

template <typename T>
void take_least(std::optional<T>& least, T value) {
  least = std::min(least.value_or(value), value);
}

void read_memory(const fs::path& group, const Files& files, GroupLimits& limits) {
  const auto limit = number_in(group / files.limit);
  if (!limit || *limit >= kUnlimited) return;
  const int64_t cache = stat_of(group / "memory.stat", files.cache);
  const int64_t taken = number_in(group / files.usage).value_or(0) - cache;
  take_least(limits.memory, *limit);
  take_least(limits.memory_left, std::max<int64_t>(0, *limit - std::max<int64_t>(0, taken)));
}

void read_processors(const fs::path& group, bool version2, GroupLimits& limits) {
  double quota = 0.0, period = 0.0;
  if (version2) {
    std::ifstream in(group / "cpu.max");
    if (!(in >> quota >> period)) return;  // "max 100000"
  } else {
    quota = static_cast<double>(number_in(group / "cpu.cfs_quota_us").value_or(-1));
    period = static_cast<double>(number_in(group / "cpu.cfs_period_us").value_or(0));
  }
  if (quota > 0.0 && period > 0.0) take_least(limits.processors, quota / period);
}

/// Calls `read` with the folder of a group and those above it, as far as they can be seen: inside
/// a container its own is the root.
template <typename Read>
void for_each_group(const fs::path& root, const std::string& path, const Read& read) {
  fs::path group = fs::path(path).relative_path();
  while (true) {
    read(root / group);
    if (group.empty()) return;
    group = group.parent_path();
  }
}

bool names(const std::string& controllers, const std::string& controller) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == controller) return true;
  }
  return false;
}

}  // namespace

GroupLimits group_limits(const fs::path& groups, const fs::path& own) {
  GroupLimits limits;
  std::error_code error;
  const bool version2 = fs::exists(groups / "cgroup.controllers", error);
  std::ifstream in(own);
  // "0::/group" of version 2, "4:memory:/group" of version 1.
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (version2 && controllers.empty()) {
      for_each_group(groups, path, [&](const fs::path& group) {
        read_memory(group, kVersion2, limits);
        read_processors(group, true, limits);
      });
    }
    if (version2) continue;
    if (names(controllers, "memory")) {
      for_each_group(groups / "memory", path,
                     [&](const fs::path& group) { read_memory(group, kVersion1, limits); });
    }
    if (names(controllers, "cpu")) {
      for_each_group(groups / "cpu", path,
                     [&](const fs::path& group) { read_processors(group, false, limits); });
    }
  }
  return limits;
}

}  // namespace schmidt
