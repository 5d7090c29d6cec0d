#pragma once

#include <array>
#include <cstdint>

namespace schmidt::quant {

/// NF4, the NormalFloat of 4 bits. The weights of a matrix, counted row by row, are cut into
/// blocks, whatever the length of a row:
///
///   W_i = a_b L[q_i],  q_i in 0 .. 15,  b = i / block,  a_b = max |W_i| of block b
///
/// The levels L are quantiles of the normal distribution, scaled to reach from -1 to 1 with 0 among
/// them: with z = 0.9677083 for the quantile at the end, eight even steps of probability from z
/// down to 1/2 give those above 0, seven those below it. Double quantization stores a_b in 8 bits:
///
///   a_b = A_c D[p_b] + mu,  p_b in 0 .. 255,  c = b / 256,  A_c = max |a_b - mu| of its 256
///   blocks,
///
/// mu the mean of all a_b and D the dynamic map. Two codes q share a byte, the earlier in its high
/// half; an odd last one has the code of 0 beside it. 64 weights take 4.127 bits each.
///
/// Source: Dettmers et al. 2023, arXiv:2305.14314, section 3 (QLoRA); layout, rounding of ties and
/// the values of the levels are those of the package bitsandbytes (0.50) on the CPU.
constexpr int64_t kNf4Block = 64;
constexpr int64_t kNestedBlock = 256;

constexpr std::array<float, 16> kNf4Levels = {-1.0F,
                                              -0.6961928009986877F,
                                              -0.5250730514526367F,
                                              -0.39491748809814453F,
                                              -0.28444138169288635F,
                                              -0.18477343022823334F,
                                              -0.09105003625154495F,
                                              0.0F,
                                              0.07958029955625534F,
                                              0.16093020141124725F,
                                              0.24611230194568634F,
                                              0.33791524171829224F,
                                              0.44070982933044434F,
                                              0.5626170039176941F,
                                              0.7229568362236023F,
                                              1.0F};

/// D, ascending: 0, 1, and for each of seven powers of ten down from 1 the middles of 64, 32, .. 1
/// even parts of [0.1, 1] times it, of either sign.
/// Source: Dettmers 2016, arXiv:1511.04561, "dynamic tree"; create_dynamic_map of bitsandbytes.
const std::array<float, 256>& dynamic_map();

/// Bytes of so many codes.
constexpr int64_t nf4_bytes(int64_t count) { return count / 2 + count % 2; }

/// Blocks of so many numbers, the last of which may be shorter.
constexpr int64_t blocks_of(int64_t count, int64_t block) {
  return count / block + (count % block != 0 ? 1 : 0);
}

/// `count` finite numbers to nf4_bytes(count) bytes and blocks_of(count, block) largest magnitudes.
/// Of two levels at the same distance the lower one is taken.
void encode_nf4(const float* values, int64_t count, int64_t block, uint8_t* codes, float* absmax);

/// `count` numbers to the codes of the dynamic map and the largest magnitude of each block. A
/// number over its block's magnitude is rounded to one of 65,536 even steps from -1 to 1 and that
/// to the nearest level, the lower of two; in a block of zeros all codes are 0.
void encode_dynamic(const float* values, int64_t count, int64_t block, uint8_t* codes,
                    float* absmax);

/// The largest magnitudes of blocks as they are stored.
struct Nf4Scales {
  const float* absmax = nullptr;   ///< a_b; null with double quantization, which has the others
  const uint8_t* codes = nullptr;  ///< p_b
  const float* map = nullptr;      ///< D [256]
  const float* nested = nullptr;   ///< A_c
  int64_t nested_block = kNestedBlock;
  float offset = 0.0F;  ///< mu

  float at(int64_t b) const {
    return absmax != nullptr ? absmax[b] : map[codes[b]] * nested[b / nested_block] + offset;
  }
};

/// The numbers begin .. end of all that `codes` holds.
void decode_nf4(const uint8_t* codes, const Nf4Scales& scales, int64_t block, int64_t begin,
                int64_t end, float* values);

/// Their product with x [end - begin], summed in float64: what faster products are compared with.
double dot_nf4(const uint8_t* codes, const Nf4Scales& scales, int64_t block, int64_t begin,
               int64_t end, const float* x);

}  // namespace schmidt::quant
