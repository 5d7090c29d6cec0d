#include "schmidt/base/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include <unistd.h>

#include "schmidt/base/control_group.h"

namespace schmidt {
namespace {

int64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages_in_all = 0, pages_resident = 0;
  if (!(file >> pages_in_all >> pages_resident)) return 0;
  return pages_resident * ::sysconf(_SC_PAGESIZE);
}

int64_t machine_bytes() { return meminfo("MemTotal:"); }

int64_t available_bytes() {
  const int64_t of_machine = meminfo("MemAvailable:");
  return std::min(of_machine, group_limits().memory_left.value_or(of_machine));
}

}  // namespace schmidt
