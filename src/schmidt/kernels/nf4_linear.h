#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/held_rows.h"
#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::kernels {

/// W [m, n] in NF4, counted row by row (quant/nf4.h).
struct Nf4Weight {
  const uint8_t* codes = nullptr;
  quant::Nf4Scales scales;
  int64_t block = quant::kNf4Block;
  int64_t m = 0, n = 0;
};

/// Writes the numbers begin .. end - 1 of all m n, rounded to float32 and then to T.
template <typename T>
using Nf4Decode = void (*)(const Nf4Weight&, int64_t begin, int64_t end, T* to);

/// Outputs begin .. end - 1 of y [rows, m] for at most kMostDotRows rows x [rows, n], whose numbers
/// lie in runs of 2 `lanes`: those at even places, then those at odd ones.
using Nf4Dot = void (*)(const Nf4Weight&, const float* x, int64_t rows, int64_t begin, int64_t end,
                        float* y);
inline constexpr int64_t kMostDotRows = 4;

struct Nf4Kernels {
  Nf4Decode<float> decode;
  Nf4Decode<c10::BFloat16> decode_bfloat16;
  Nf4Dot dot = nullptr;  ///< null: there is none
  int64_t lanes = 0;
};

/// Whether rows are whole runs, and each of these lies in one block.
constexpr bool suits_dot(const Nf4Weight& w, const Nf4Kernels& kernels) {
  return kernels.dot != nullptr && w.n % w.block == 0 && w.block % (2 * kernels.lanes) == 0;
}

/// Whether the fastest implementation here has dot products for W.
bool has_nf4_dots(const Nf4Weight& w);

/// Outputs begin .. end - 1 of y for at most kMostDotRows rows x [rows, n], on this thread, where
/// has_nf4_dots(). `numbers` is memory that it may use.
void multiply_nf4(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end,
                  const Outputs<float>& y, std::vector<float>& numbers);
void multiply_nf4(const Nf4Weight& w, const float* x, int64_t rows, int64_t begin, int64_t end,
                  const Outputs<c10::BFloat16>& y, std::vector<float>& numbers);

/// quant::decode_nf4, and what was written for the vectors of x86-64. All decode to the same bits.
const Implementations<Nf4Kernels>& nf4_implementations();

/// Writes rows begin .. end - 1 as [end - begin, n], by the fastest on several threads.
void decode_nf4_rows(const Nf4Weight& w, int64_t begin, int64_t end, float* to);

/// Whether nf4_linear is the fastest way, for x on the CPU that needs no gradient: few rows, and
/// more where panels of decoded rows are.
bool suits_nf4_linear(const torch::Tensor& x, const Nf4Weight& w);

/// y = x W^T, x [.., n] in float32 or bfloat16 -> [.., m] in x's dtype; not differentiable. W is
/// numbers in registers alone, or some rows of it at a time in a cache, in x's dtype where x has
/// many rows. Sums are float32, y is rounded once.
torch::Tensor nf4_linear(const torch::Tensor& x, const Nf4Weight& w);

}  // namespace schmidt::kernels
