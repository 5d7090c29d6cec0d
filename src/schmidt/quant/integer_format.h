#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>

namespace schmidt::quant {

/// Integers of few bits that share a scale, and where they are not symmetric a zero point, with
/// their neighbours in a row:
///
///   W_ij = s_ig (q_ij - z_ig),  q and z in 0 .. 2^bits - 1,  g = j / group
///
/// Symmetric: z = 2^(bits - 1) everywhere. The layout on disk is "pack-quantized" of
/// compressed-tensors (0.20): the codes of a row, and of a column of zero points, are one stream of
/// bits from the lowest bit of the first 32-bit word on, filled up to a whole word.
struct IntegerFormat {
  int bits = 4;            ///< one of kIntegerWidths
  int64_t group = 64;      ///< columns that share a scale; divides the row
  bool symmetric = false;  ///< without zero points

  int levels() const { return 1 << bits; }
  int middle() const { return 1 << (bits - 1); }
  std::string label() const;  ///< "int4, groups of 64", "int8 symmetric, groups of 576"

  bool operator==(const IntegerFormat&) const = default;
};

/// The widths that there are.
constexpr int kIntegerWidths[] = {8, 6, 5, 4, 3, 2};
constexpr const char* kIntegerWidthsText = "8, 6, 5, 4, 3 or 2";

constexpr bool is_integer_width(int64_t bits) {
  return std::ranges::find(kIntegerWidths, bits) != std::end(kIntegerWidths);
}

/// 32-bit words that hold `count` codes.
int64_t packed_words(int64_t count, int bits);

/// `codes` below 2^bits to packed_words(count, bits) words, the rest of the last one 0.
void pack_codes(const uint8_t* codes, int64_t count, int bits, uint32_t* words);

void unpack_codes(const uint32_t* words, int64_t count, int bits, uint8_t* codes);

/// Columns 0 .. n of a row in numbers: its words, its n / group scales, as many zero points, null
/// where they are `middle()`.
void decode_row(const IntegerFormat& format, int64_t n, const uint32_t* words, const float* scales,
                const uint8_t* zeros, float* values);

}  // namespace schmidt::quant
