#pragma once

#include <cstdint>

namespace schmidt {

/// Bytes of this process in memory now; 0 where the system does not say.
int64_t resident_bytes();

/// Bytes of memory in the machine; 0 where the system does not say.
int64_t machine_bytes();

/// Bytes that the machine could give to this process now, within the limits of its control groups;
/// 0 where the system does not say.
int64_t available_bytes();

}  // namespace schmidt
