#pragma once

#include <cstdint>

namespace schmidt::kernels {

/// Neighbouring tokens that see each other, among tokens numbered along a batch.
struct TokenSpan {
  int64_t begin = 0;
  int64_t length = 0;
  bool operator==(const TokenSpan&) const = default;
};

}  // namespace schmidt::kernels
