#pragma once

#include <cstdint>

namespace schmidt::heal {

/// A learning rate that rises linearly to its peak, then falls along half a cosine:
///
///   s < w:  peak (s + 1) / w
///   else:   peak (f + (1 - f) (1 + cos(pi (s - w) / (steps - w))) / 2)
///
/// for step s, w = warmup * steps rounded up, f = final_share.
/// Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
struct Schedule {
  double peak = 2e-4;
  int64_t steps = 1;         ///< optimizer steps in all
  double warmup = 0.1;       ///< share of the steps, [0, 1)
  double final_share = 0.0;  ///< of the peak that is left at the end, [0, 1]

  /// The rate of a step, counted from 0; that of the last one beyond the end.
  double rate(int64_t step) const;
};

}  // namespace schmidt::heal
