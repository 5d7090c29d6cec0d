#pragma once

// Matrix products of bfloat16 in float32 by the matrix unit of x86 (AMX). x86 only; include it from
// files that check for that.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include <immintrin.h>

#include "schmidt/kernels/word_tiles_x86.h"

#define SCHMIDT_AMX [[gnu::target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")]]

namespace schmidt::kernels::amx {

using tiles::Word;

/// Rows of a tile, and words in each of them: 16 x 32 numbers.
inline constexpr int64_t kSide = 16;

/// As LDTILECFG reads it.
struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Eight whole tiles. In memory as a whole: compilers believe that eight bytes of it are read.
inline constexpr Configuration kWholeTiles;

/// One line of a cache.
struct alignas(64) Line {
  Word words[kSide];
};

/// A left operand [rows, pairs] as tiles read it: where they lie within, from where it is; behind
/// its last whole tiles, from copies filled up with zeros.
class LeftTiles {
 public:
  /// `words` [rows, pairs], `row` from row to row; `memory` holds the copies and outlives this.
  LeftTiles(const Word* words, int64_t row, int64_t rows, int64_t pairs, std::vector<Line>& memory)
      : words_(words),
        row_(row),
        whole_rows_(rows / kSide * kSide),
        whole_blocks_(pairs / kSide),
        blocks_((pairs + kSide - 1) / kSide) {
    const int64_t tail = blocks_ - whole_blocks_, left = rows - whole_rows_;
    const auto needed = static_cast<size_t>(whole_rows_ * tail + (left > 0 ? kSide * blocks_ : 0));
    if (memory.size() < needed) memory.resize(needed);
    ends_ = memory.data();
    last_ = ends_ + whole_rows_ * tail;
    const auto copy = [&](int64_t from_row, int64_t block, Line& to) {
      const int64_t count = std::min(kSide, pairs - block * kSide);
      std::memcpy(to.words, words + from_row * row + block * kSide,
                  static_cast<size_t>(count) * sizeof(Word));
      std::fill(to.words + count, to.words + kSide, 0);
    };
    for (int64_t r = 0; r < whole_rows_ * tail; ++r) copy(r, whole_blocks_, ends_[r]);
    if (left == 0) return;
    for (int64_t r = 0; r < kSide; ++r) {
      for (int64_t block = 0; block < blocks_; ++block) {
        Line& to = last_[r * blocks_ + block];
        r < left ? copy(whole_rows_ + r, block, to) : void(to = {});
      }
    }
  }

  int64_t blocks() const { return blocks_; }

  /// Words of a row of 16: where they begin, bytes from row to row.
  struct Place {
    const Word* words;
    int64_t row_bytes;
  };

  Place at(int64_t row, int64_t block) const {
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Word));
    if (row >= whole_rows_) return {last_[block].words, blocks_ * kSide * kBytes};
    if (block >= whole_blocks_) return {ends_[row].words, kSide * kBytes};
    return {words_ + row * row_ + block * kSide, row_ * kBytes};
  }

 private:
  const Word* words_;
  int64_t row_, whole_rows_, whole_blocks_, blocks_;
  Line* ends_ = nullptr;  // the last block of whole_rows_
  Line* last_ = nullptr;  // [16, blocks] the rows behind them
};

/// Where the left operand comes from memory: asks for the same place of the 32 rows behind, since
/// the processor does not foresee as many streams.
SCHMIDT_AMX inline void ask_ahead(const LeftTiles::Place& place) {
  const auto* const bytes = reinterpret_cast<const char*>(place.words);
#pragma GCC unroll 16
  for (int64_t r = 0; r < kSide; ++r) {
    _mm_prefetch(bytes + (2 * kSide + r) * place.row_bytes, _MM_HINT_T0);
  }
}

/// c [16 R, 16 V] = A B: A from `row` on, b [16 blocks of A, 16 V] of words, b_row and c_row from
/// row to row.
template <int R, int V, bool kAhead>
SCHMIDT_AMX inline void product(const LeftTiles& a, int64_t row, const Word* b, int64_t b_row,
                                float* c, int64_t c_row) {
  const int64_t b_bytes = b_row * static_cast<int64_t>(sizeof(Word));
  const int64_t c_bytes = c_row * static_cast<int64_t>(sizeof(float));
  _tile_zero(0);
  if constexpr (V == 2) _tile_zero(1);
  if constexpr (R == 2) _tile_zero(2);
  if constexpr (R == 2 && V == 2) _tile_zero(3);
  for (int64_t block = 0; block < a.blocks(); ++block, b += kSide * b_row) {
    const LeftTiles::Place first = a.at(row, block);
    if constexpr (kAhead) ask_ahead(first);
    _tile_loadd(4, first.words, first.row_bytes);
    _tile_loadd(6, b, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (V == 2) {
      _tile_loadd(7, b + kSide, b_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R == 2) {
      const LeftTiles::Place second = a.at(row + kSide, block);
      if constexpr (kAhead) ask_ahead(second);
      _tile_loadd(5, second.words, second.row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (V == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, c_bytes);
  if constexpr (V == 2) _tile_stored(1, c + kSide, c_bytes);
  if constexpr (R == 2) _tile_stored(2, c + kSide * c_row, c_bytes);
  if constexpr (R == 2 && V == 2) _tile_stored(3, c + kSide * c_row + kSide, c_bytes);
}

/// c [rows up to whole tiles, columns] = A B for 1 to 32 rows of A from `row` on, of which whole
/// tiles are read; columns a multiple of 16. Between _tile_loadconfig and _tile_release.
/// kAhead: the rows behind are asked for meanwhile.
template <bool kAhead = false>
SCHMIDT_AMX inline void multiply(const LeftTiles& a, int64_t row, int64_t rows, const Word* b,
                                 int64_t b_row, float* c, int64_t c_row, int64_t columns) {
  asm volatile("" ::: "memory");  // what tiles read is written before
  for (int64_t done = 0; done < columns; done += 2 * kSide) {
    const bool two = columns - done > kSide;
    if (rows > kSide) {
      two ? product<2, 2, kAhead>(a, row, b + done, b_row, c + done, c_row)
          : product<2, 1, kAhead>(a, row, b + done, b_row, c + done, c_row);
    } else {
      two ? product<1, 2, kAhead>(a, row, b + done, b_row, c + done, c_row)
          : product<1, 1, kAhead>(a, row, b + done, b_row, c + done, c_row);
    }
  }
}

}  // namespace schmidt::kernels::amx
