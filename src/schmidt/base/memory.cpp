#include "schmidt/base/memory.h"

#include <fstream>
#include <string>

#include <unistd.h>

namespace schmidt {

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages_in_all = 0, pages_resident = 0;
  if (!(file >> pages_in_all >> pages_resident)) return 0;
  return pages_resident * ::sysconf(_SC_PAGESIZE);
}

int64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:")) return std::stoll(line.substr(13)) * 1024;
  }
  return 0;
}

}  // namespace schmidt
