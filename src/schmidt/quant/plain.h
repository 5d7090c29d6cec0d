#pragma once

#include "schmidt/quant/block.h"

namespace schmidt::quant {

// Plain numbers as formats of blocks of one: F32, F16, BF16.

struct BlockF32 {
  static constexpr int64_t kValues = 1;
  Bits32 bits;

  static BlockF32 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

/// Rounded to nearest, ties to even.
struct BlockF16 {
  static constexpr int64_t kValues = 1;
  Float16 value;

  static BlockF16 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

/// The upper half of a float32. Rounded to nearest, ties to even.
struct BlockBF16 {
  static constexpr int64_t kValues = 1;
  uint8_t bytes[2];

  static BlockBF16 encode(const float* values);
  void decode(float* values) const;
  double dot(const float* x) const;
};

}  // namespace schmidt::quant
