#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace schmidt {

/// What the control groups of this process, a container's say, leave it of the machine. The least
/// of its own group and of those that this one stands in counts.
struct GroupLimits {
  std::optional<int64_t> memory;       ///< bytes in all
  std::optional<int64_t> memory_left;  ///< bytes that are not taken yet, file caches not counted
  std::optional<double> processors;    ///< whole ones and parts of one
};

/// Of Linux's control groups, version 1 or 2; nothing where there are none or they set no limit.
GroupLimits group_limits(const std::filesystem::path& groups = "/sys/fs/cgroup",
                         const std::filesystem::path& own = "/proc/self/cgroup");

}  // namespace schmidt
