#include "schmidt/base/memory.h"

#include <fstream>

#include <unistd.h>

namespace schmidt {

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages_in_all = 0, pages_resident = 0;
  if (!(file >> pages_in_all >> pages_resident)) return 0;
  return pages_resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace schmidt
