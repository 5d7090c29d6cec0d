#include "schmidt/io/block_formats.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <c10/util/Half.h>

namespace schmidt::io {
namespace {

static_assert(std::endian::native == std::endian::little,
              "blocks are read as they lie in the file");

// Blocks are read where the file is mapped, at any address, so every field is
// made of bytes. Inner loops run over a constant 16 or 32 numbers: the compiler
// turns them into vector code.

struct Float16 {
  uint8_t bytes[2];
  float value() const {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return c10::detail::fp16_ieee_to_fp32_value(bits);
  }
};

struct Bits32 {
  uint8_t bytes[4];
  uint32_t value() const {
    uint32_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return bits;
  }
};

struct BlockQ4_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  uint8_t low_high[16];  // value j in the low half of byte j, value j + 16 in the high

  void decode(float* out) const {
    const float scale = d.value();
    for (int j = 0; j < 16; ++j) {
      out[j] = scale * static_cast<float>((low_high[j] & 15) - 8);
      out[j + 16] = scale * static_cast<float>((low_high[j] >> 4) - 8);
    }
  }
};

struct BlockQ4_1 {
  static constexpr int64_t kValues = 32;
  Float16 d, m;
  uint8_t low_high[16];

  void decode(float* out) const {
    const float scale = d.value();
    const float minimum = m.value();
    for (int j = 0; j < 16; ++j) {
      out[j] = scale * static_cast<float>(low_high[j] & 15) + minimum;
      out[j + 16] = scale * static_cast<float>(low_high[j] >> 4) + minimum;
    }
  }
};

struct BlockQ5_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  Bits32 fifth;  // bit j belongs to value j
  uint8_t low_high[16];

  void decode(float* out) const {
    const float scale = d.value();
    const uint32_t bits = fifth.value();
    for (int j = 0; j < 16; ++j) {
      const int low = (low_high[j] & 15) | static_cast<int>((bits >> j & 1) << 4);
      const int high = (low_high[j] >> 4) | static_cast<int>((bits >> (j + 16) & 1) << 4);
      out[j] = scale * static_cast<float>(low - 16);
      out[j + 16] = scale * static_cast<float>(high - 16);
    }
  }
};

struct BlockQ5_1 {
  static constexpr int64_t kValues = 32;
  Float16 d, m;
  Bits32 fifth;
  uint8_t low_high[16];

  void decode(float* out) const {
    const float scale = d.value();
    const float minimum = m.value();
    const uint32_t bits = fifth.value();
    for (int j = 0; j < 16; ++j) {
      const int low = (low_high[j] & 15) | static_cast<int>((bits >> j & 1) << 4);
      const int high = (low_high[j] >> 4) | static_cast<int>((bits >> (j + 16) & 1) << 4);
      out[j] = scale * static_cast<float>(low) + minimum;
      out[j + 16] = scale * static_cast<float>(high) + minimum;
    }
  }
};

struct BlockQ8_0 {
  static constexpr int64_t kValues = 32;
  Float16 d;
  int8_t q[32];

  void decode(float* out) const {
    const float scale = d.value();
    for (int j = 0; j < 32; ++j) out[j] = scale * static_cast<float>(q[j]);
  }
};

// The K formats: 256 values in groups of 16 or 32, each with a scale of a few bits
// under one of float16.

struct BlockQ2_K {
  static constexpr int64_t kValues = 256;
  uint8_t scale_min[16];
  uint8_t q[64];  // byte 32 h + l holds values 128 h + 32 s + l, s = 0..3, two bits each
  Float16 d, dmin;

  void decode(float* out) const {
    const float super_scale = d.value();
    const float super_minimum = dmin.value();
    for (int group = 0; group < 16; ++group) {
      const float scale = super_scale * static_cast<float>(scale_min[group] & 15);
      const float minimum = super_minimum * static_cast<float>(scale_min[group] >> 4);
      const uint8_t* bytes = q + 32 * (group / 8) + 16 * (group % 2);
      const int shift = 2 * (group / 2 % 4);
      for (int l = 0; l < 16; ++l) {
        out[16 * group + l] = scale * static_cast<float>(bytes[l] >> shift & 3) - minimum;
      }
    }
  }
};

struct BlockQ3_K {
  static constexpr int64_t kValues = 256;
  uint8_t third[32];  // bit 4 h + s of byte l belongs to value 128 h + 32 s + l
  uint8_t q[64];      // as in Q2_K
  uint8_t scales[12];
  Float16 d;

  // Six bits: four in the first eight bytes, two in the last four.
  int scale(int group) const {
    const int low = scales[group % 8] >> (4 * (group / 8)) & 15;
    const int high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    return (low | high << 4) - 32;
  }

  void decode(float* out) const {
    const float super_scale = d.value();
    for (int group = 0; group < 16; ++group) {
      const float group_scale = super_scale * static_cast<float>(scale(group));
      const uint8_t* bytes = q + 32 * (group / 8) + 16 * (group % 2);
      const uint8_t* bits = third + 16 * (group % 2);
      const int shift = 2 * (group / 2 % 4);
      const int bit = group / 2;
      for (int l = 0; l < 16; ++l) {
        const int value = (bytes[l] >> shift & 3) | (bits[l] >> bit & 1) << 2;
        out[16 * group + l] = group_scale * static_cast<float>(value - 4);
      }
    }
  }
};

// Eight scales and eight minima of six bits each in twelve bytes.
struct PackedScales {
  uint8_t s[12];
  int scale(int i) const { return i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4; }
  int minimum(int i) const { return i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4; }
};

struct BlockQ4_K {
  static constexpr int64_t kValues = 256;
  Float16 d, dmin;
  PackedScales scales;
  uint8_t q[128];  // byte 32 j + l holds values 64 j + l (low half) and 64 j + 32 + l

  void decode(float* out) const {
    const float super_scale = d.value();
    const float super_minimum = dmin.value();
    for (int group = 0; group < 8; ++group) {
      const float scale = super_scale * static_cast<float>(scales.scale(group));
      const float minimum = super_minimum * static_cast<float>(scales.minimum(group));
      const uint8_t* bytes = q + 32 * (group / 2);
      const int shift = 4 * (group % 2);
      for (int l = 0; l < 32; ++l) {
        out[32 * group + l] = scale * static_cast<float>(bytes[l] >> shift & 15) - minimum;
      }
    }
  }
};

struct BlockQ5_K {
  static constexpr int64_t kValues = 256;
  Float16 d, dmin;
  PackedScales scales;
  uint8_t fifth[32];  // bit g of byte l belongs to value 32 g + l
  uint8_t q[128];     // as in Q4_K

  void decode(float* out) const {
    const float super_scale = d.value();
    const float super_minimum = dmin.value();
    for (int group = 0; group < 8; ++group) {
      const float scale = super_scale * static_cast<float>(scales.scale(group));
      const float minimum = super_minimum * static_cast<float>(scales.minimum(group));
      const uint8_t* bytes = q + 32 * (group / 2);
      const int shift = 4 * (group % 2);
      for (int l = 0; l < 32; ++l) {
        const int value = (bytes[l] >> shift & 15) | (fifth[l] >> group & 1) << 4;
        out[32 * group + l] = scale * static_cast<float>(value) - minimum;
      }
    }
  }
};

struct BlockQ6_K {
  static constexpr int64_t kValues = 256;
  uint8_t low[128];  // byte 64 h + 32 p + l holds values 128 h + 32 p + l (low half) and + 64
  uint8_t high[64];  // byte 32 h + l holds values 128 h + 32 s + l, s = 0..3, two bits each
  int8_t scales[16];
  Float16 d;

  void decode(float* out) const {
    const float super_scale = d.value();
    for (int group = 0; group < 16; ++group) {
      const float scale = super_scale * static_cast<float>(scales[group]);
      const int half = group / 8;
      const int part = group / 2 % 4;
      const int odd = 16 * (group % 2);
      const uint8_t* low_bytes = low + 64 * half + 32 * (part % 2) + odd;
      const uint8_t* high_bytes = high + 32 * half + odd;
      for (int l = 0; l < 16; ++l) {
        const int value =
            (low_bytes[l] >> (4 * (part / 2)) & 15) | (high_bytes[l] >> (2 * part) & 3) << 4;
        out[16 * group + l] = scale * static_cast<float>(value - 32);
      }
    }
  }
};

template <class Block>
void decode_blocks(const uint8_t* blocks, int64_t count, float* out) {
  static_assert(alignof(Block) == 1);
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < count; ++i) block[i].decode(out + i * Block::kValues);
}

template <class Block>
constexpr BlockFormat block(uint32_t ggml_type, std::string_view name) {
  return {ggml_type, name, Block::kValues, sizeof(Block), decode_blocks<Block>};
}

constexpr BlockFormat kFormats[] = {
    {0, "F32", 1, 4, nullptr},    {1, "F16", 1, 2, nullptr},    {30, "BF16", 1, 2, nullptr},
    block<BlockQ4_0>(2, "Q4_0"),  block<BlockQ4_1>(3, "Q4_1"),  block<BlockQ5_0>(6, "Q5_0"),
    block<BlockQ5_1>(7, "Q5_1"),  block<BlockQ8_0>(8, "Q8_0"),  block<BlockQ2_K>(10, "Q2_K"),
    block<BlockQ3_K>(11, "Q3_K"), block<BlockQ4_K>(12, "Q4_K"), block<BlockQ5_K>(13, "Q5_K"),
    block<BlockQ6_K>(14, "Q6_K"),
};

}  // namespace

std::span<const BlockFormat> block_formats() { return kFormats; }

const BlockFormat* find_block_format(uint32_t ggml_type) {
  const auto* found = std::ranges::find(kFormats, ggml_type, &BlockFormat::ggml_type);
  return found == std::end(kFormats) ? nullptr : found;
}

std::string block_format_names() {
  std::string names;
  for (const BlockFormat& format : kFormats) {
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

}  // namespace schmidt::io
