#pragma once

#include <cstdint>

namespace schmidt {

/// Bytes of this process in memory now; 0 where the system does not say.
int64_t resident_bytes();

/// Bytes that the machine could give to programs now; 0 where the system does not say.
int64_t available_bytes();

}  // namespace schmidt
