#include "schmidt/quant/integer_format.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace schmidt::quant {
namespace {

/// 32 codes from `Bits` words: as many words as bits, whatever their number.
template <int Bits>
void unpack_32(const uint32_t* words, uint8_t* codes) {
  constexpr uint32_t kMask = (1U << Bits) - 1;
  for (int i = 0; i < 32; ++i) {
    const int bit = i * Bits, word = bit / 32, shift = bit % 32;
    uint32_t code = words[word] >> shift;
    if (shift + Bits > 32) code |= words[word + 1] << (32 - shift);
    codes[i] = static_cast<uint8_t>(code & kMask);
  }
}

template <int Bits>
void unpack(const uint32_t* words, int64_t count, uint8_t* codes) {
  for (; count >= 32; count -= 32, words += Bits, codes += 32) unpack_32<Bits>(words, codes);
  if (count == 0) return;
  uint32_t last[Bits] = {};
  std::memcpy(last, words, static_cast<size_t>(packed_words(count, Bits)) * sizeof(uint32_t));
  uint8_t unpacked[32];
  unpack_32<Bits>(last, unpacked);
  std::copy_n(unpacked, count, codes);
}

}  // namespace

std::string IntegerFormat::label() const {
  return fmt::format("int{}{}, groups of {}", bits, symmetric ? " symmetric" : "", group);
}

int64_t packed_words(int64_t count, int bits) { return (count * bits + 31) / 32; }

void pack_codes(const uint8_t* codes, int64_t count, int bits, uint32_t* words) {
  std::fill_n(words, packed_words(count, bits), 0U);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = i * bits;
    const auto shift = static_cast<int>(bit % 32);
    words[bit / 32] |= static_cast<uint32_t>(codes[i]) << shift;
    if (shift + bits > 32) words[bit / 32 + 1] |= static_cast<uint32_t>(codes[i]) >> (32 - shift);
  }
}

void unpack_codes(const uint32_t* words, int64_t count, int bits, uint8_t* codes) {
  switch (bits) {
    case 2:
      return unpack<2>(words, count, codes);
    case 3:
      return unpack<3>(words, count, codes);
    case 4:
      return unpack<4>(words, count, codes);
    case 5:
      return unpack<5>(words, count, codes);
    case 6:
      return unpack<6>(words, count, codes);
    default:
      return unpack<8>(words, count, codes);
  }
}

void decode_row(const IntegerFormat& format, int64_t n, const uint32_t* words, const float* scales,
                const uint8_t* zeros, float* values) {
  constexpr int64_t kPiece = 1024;  // a multiple of 32 codes, whole words of any number of bits
  uint8_t codes[kPiece];
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = std::min(begin + kPiece, n);
    unpack_codes(words + begin * format.bits / 32, end - begin, format.bits, codes);
    for (int64_t j = begin; j < end;) {
      const int64_t group = j / format.group;
      const int64_t stop = std::min((group + 1) * format.group, end);
      const float scale = scales[group];
      const float zero = zeros == nullptr ? static_cast<float>(format.middle()) : zeros[group];
      for (; j < stop; ++j) values[j] = scale * (static_cast<float>(codes[j - begin]) - zero);
    }
  }
}

}  // namespace schmidt::quant
