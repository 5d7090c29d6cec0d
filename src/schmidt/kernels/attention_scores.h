#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

namespace schmidt::kernels {

/// What products q k^T of heads of size d become before the softmax.
struct Scores {
  std::optional<double> scale = {};    ///< factor of the products; none: 1 / sqrt(d)
  std::optional<double> softcap = {};  ///< c > 0: a score s becomes c tanh(s / c); none: it stays

  double scale_of(int64_t d) const {
    return scale.value_or(1.0 / std::sqrt(static_cast<double>(d)));
  }
};

}  // namespace schmidt::kernels
