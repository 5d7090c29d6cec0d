#pragma once

#include <cstdint>

namespace schmidt::quant {

// How the encoders of Q2_K to Q6_K find the scale of a group of 16 or 32 values: the searches of
// ggml's reference, which decide by weighted least squares among a few scales and the codes that
// each of them rounds to. Every search gives codes that belong to its scale.

constexpr int kMaxGroup = 32;

/// The integer next to `value` among low .. high, which are below 2^22 in magnitude; ties to even.
int nearest_code(float value, int low, int high);

/// What makes `largest` `steps` steps; 0 where it is 0.
float steps_of(int steps, float largest);

/// v_i = scale q_i - minimum, q in 0 .. most, minimum >= 0.
struct MinimumFit {
  float scale = 0, minimum = 0;
  uint8_t codes[kMaxGroup] = {};
};

/// Which scales are tried: (first + k / 10 + most) / (largest - smallest), k = 0 .. steps, as
/// inverses; and whether errors count by magnitude or by square.
struct MinimumSearch {
  int most;
  float first;
  int steps;
  bool by_magnitude;
};
MinimumFit fit_with_minimum(const float* values, const float* weights, int count,
                            const MinimumSearch& search);

/// v_i = scale (q_i - half), q in 0 .. 2 half - 1. The scale may be negative.
struct CentredFit {
  float scale = 0;
  uint8_t codes[kMaxGroup] = {};
};

/// The best of 19 scales about the one that puts the extreme value at code 0, errors weighted by
/// the square of the value.
CentredFit fit_by_scales(const float* values, int count, int half);

/// Starting there, codes change one by one as long as that makes the error smaller, in five rounds
/// at most.
CentredFit fit_by_codes(const float* values, int count, int half);

}  // namespace schmidt::quant
