#pragma once

#include <algorithm>
#include <vector>

namespace schmidt {

/// The tenth percentile: what other work on the machine disturbs least, without
/// being one lucky run.
inline double typical(std::vector<double> seconds) {
  const auto place = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 10);
  std::nth_element(seconds.begin(), place, seconds.end());
  return *place;
}

}  // namespace schmidt
