#pragma once

namespace schmidt::kernels {

/// Bytes a second at which the threads of this process together read memory that no cache holds:
/// the best of five passes over 256 MiB, in order. Takes about a tenth of a second.
double measure_read_speed();

}  // namespace schmidt::kernels
