#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace schmidt {

/// A permutation of 0 .. count - 1 that is the same with every standard library.
/// Source: Fisher and Yates; Knuth, The Art of Computer Programming, 3.4.2, Alg. P.
std::vector<int64_t> shuffled(int64_t count, std::mt19937_64& random);

}  // namespace schmidt
