#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/core/MT19937RNGEngine.h>

namespace schmidt::eval {

/// Python's random.Random, draw for draw, so that worked examples are those that
/// lm-evaluation-harness takes.
/// Source: CPython 3.11, Lib/random.py and Modules/_randommodule.c; the generator is that of
/// Matsumoto and Nishimura 1998, ACM TOMACS 8(1), seeded by their init_by_array of 2002.
class PythonRandom {
 public:
  /// random.Random(seed).
  explicit PythonRandom(uint64_t seed);

  /// getrandbits(bits), bits in 1 .. 64.
  uint64_t bits(int count);

  /// randrange(n), n >= 1.
  uint64_t below(uint64_t n);

  /// random(): in [0, 1), of 53 bits.
  double uniform();

  /// sample(range(n), k). Throws c10::ValueError unless 0 <= k <= n.
  std::vector<size_t> sample(size_t n, size_t k);

 private:
  at::mt19937 engine_;
};

}  // namespace schmidt::eval
