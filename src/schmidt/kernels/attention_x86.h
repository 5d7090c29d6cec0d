#pragma once

#include <cstdint>
#include <vector>

#include <c10/util/BFloat16.h>

#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/token_span.h"

namespace schmidt::kernels {

/// Causal attention within spans of tokens, in float32 or in bfloat16 with float32 sums, by AVX-512
/// with the instructions for bfloat16. The score matrix exists tile by tile only.
/// Source: Dao 2023, arXiv:2307.08691, here with scores as [keys, queries], so that
/// the softmax of 16 queries runs in the lanes of one register.
template <typename T>
struct AttentionProblem {
  const T* q;  ///< [n, heads, d], q_stride elements from token to token
  const T* k;  ///< [n, kv_heads, d]
  const T* v;  ///< [n, kv_heads, d]
  int64_t q_stride, k_stride, v_stride;
  int64_t n, heads, kv_heads;
  int64_t d;       ///< a multiple of 16
  int64_t window;  ///< how many of the latest tokens a token sees, at least 1
  float scale;
  const std::vector<TokenSpan>& spans;
};

/// What the backward pass reads and writes beside the problem, all packed.
struct AttentionGradients {
  const c10::BFloat16* out;        ///< [n, heads, d]
  const float* log_sum;            ///< [heads, n]
  const c10::BFloat16* out_grad;   ///< [n, heads, d]
  c10::BFloat16* q_grad;           ///< [n, heads, d]
  c10::BFloat16 *k_grad, *v_grad;  ///< [n, kv_heads, d]
};

/// out [n, heads, d] and the softmax's sums' logarithms to the base 2 [heads, n]. Tokens of no
/// span are left as they are.
template <typename T>
using AttentionForward = void (*)(const AttentionProblem<T>& problem, T* out, float* log_sum);
using AttentionBackward = void (*)(const AttentionProblem<c10::BFloat16>& problem,
                                   const AttentionGradients& gradients);

struct AttentionKernels {
  AttentionForward<float> float32;
  AttentionForward<c10::BFloat16> bfloat16;
  AttentionBackward backward;
};

/// For the products of bfloat16 of AVX-512 alone; empty on other architectures.
Implementations<AttentionKernels> attention_implementations();

}  // namespace schmidt::kernels
