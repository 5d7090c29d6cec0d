#pragma once

#include <cstdint>

namespace schmidt {

/// Bytes of this process in memory now; 0 where the system does not say.
int64_t resident_bytes();

}  // namespace schmidt
