#pragma once

#include <cstdint>
#include <vector>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/held_rows.h"
#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/int8_layout.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// y = x W^T with W in integers of few bits, for a few rows of x.
///
/// The exact product decodes some rows of W at a time and multiplies them by kernels/gemv: numbers
/// and sums are float32.
///
/// The product with int8 activations rounds x first, by blocks B of 32 columns:
///
///   x_j ~ t_B p_j,  t_B = max |x_B| / 127,  p_j in -127 .. 127
///   y_i = sum_B s_ig t_B (sum_{j in B} q_ij p_j) - sum_g s_ig z_ig (sum_{B in g} t_B sum_j p_j)
///
/// with the sums over a block in integers, all others in float32. Beside the rounding of those
/// it is off by at most sum_B (max |x_B| / 254 + 2^-120) sum_{j in B} |W_ij|, and since the errors
/// of columns are independent typically by their root mean square, max |x_B| |W_i| / 440. A block
/// with NaN or infinity gives NaN.

/// Rows of x in int8, laid out for a W.
struct Int8Rows : Int8Layout {
  int64_t rows = 0;
  std::vector<int8_t> codes;      ///< p [rows, columns]
  std::vector<float> scales;      ///< t [rows, columns / 32, 8], the same for each of 8 lanes
  std::vector<float> sums;        ///< t_B p_j of each block, added up [rows, columns / 32]
  std::vector<float> group_sums;  ///< the same over a group of W [rows, groups]
};

/// Computes outputs begin .. end - 1 of every row.
template <typename T>
using Int8Kernel = void (*)(const QuantizedWeight&, const Int8Rows&, int64_t begin, int64_t end,
                            const Outputs<T>&);

struct Int8Kernels {
  /// Rounds one row x [n] into codes [columns] and scales [columns / 32, 8], and writes the sums
  /// t_B p_j of each block to sums [columns / 32].
  void (*round_row)(const float* x, int64_t n, int8_t* codes, float* scales, float* sums);
  Int8Kernel<float> float32;
  Int8Kernel<c10::BFloat16> bfloat16;
};

/// The plain reference, and on x86-64 what was written for its vectors.
const Implementations<Int8Kernels>& int8_implementations();

/// x [rows, n] float32, in int8 for products with W, which suits_int8().
Int8Rows int8_rows(const Int8Kernels& kernels, const QuantizedWeight& w, const float* x,
                   int64_t rows);

/// The same by the fastest implementation here.
Int8Rows int8_rows(const QuantizedWeight& w, const float* x, int64_t rows);

/// The same on this thread, into memory that was used before.
void round_rows(const QuantizedWeight& w, const float* x, int64_t rows, Int8Rows& to);

/// Outputs begin .. end - 1 of every row, on this thread.
void multiply_int8(const QuantizedWeight& w, const Int8Rows& x, int64_t begin, int64_t end,
                   const Outputs<float>& y);
void multiply_int8(const QuantizedWeight& w, const Int8Rows& x, int64_t begin, int64_t end,
                   const Outputs<c10::BFloat16>& y);

/// x [rows, n] contiguous, by the fastest implementations here and on several threads where W is
/// large enough. With int8 activations only where W suits_int8(), exact otherwise.
void quantized_gemv(const QuantizedWeight& w, const float* x, int64_t rows, bool int8_activations,
                    const Outputs<float>& y);
void quantized_gemv(const QuantizedWeight& w, const float* x, int64_t rows, bool int8_activations,
                    const Outputs<c10::BFloat16>& y);

}  // namespace schmidt::kernels
