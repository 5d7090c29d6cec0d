#include "schmidt/base/kept_memory.h"

#include <limits>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace schmidt {

void keep_freed_memory() {
#if defined(__GLIBC__)
  ::mallopt(M_MMAP_MAX, 0);  // no blocks apart, which go back at once
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());  // nor the end of the heap
#endif
}

}  // namespace schmidt
