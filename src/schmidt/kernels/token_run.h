#pragma once

#include <cstdint>

namespace schmidt::kernels {

/// Neighbouring tokens that see each other, among tokens numbered along a batch.
struct TokenRun {
  int64_t begin = 0;
  int64_t length = 0;
  bool operator==(const TokenRun&) const = default;
};

}  // namespace schmidt::kernels
