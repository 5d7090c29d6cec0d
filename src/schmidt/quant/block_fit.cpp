#include "schmidt/quant/block_fit.h"

#include <algorithm>
#include <cmath>

namespace schmidt::quant {

BlockFitWithMinima fit_block(const float* values, std::span<const MinimumFit> groups, int steps,
                             int most) {
  float largest_scale = 0, largest_minimum = 0;
  for (const MinimumFit& group : groups) {
    largest_scale = std::max(largest_scale, group.scale);
    largest_minimum = std::max(largest_minimum, group.minimum);
  }
  BlockFitWithMinima fit;
  fit.d = Float16::of(largest_scale / static_cast<float>(steps));
  fit.dmin = Float16::of(largest_minimum / static_cast<float>(steps));
  const float per_scale = steps_of(steps, largest_scale);
  const float per_minimum = steps_of(steps, largest_minimum);
  const size_t size = kBlockValues / groups.size();
  for (size_t g = 0; g < groups.size(); ++g) {
    fit.scales[g] = nearest_code(per_scale * groups[g].scale, 0, steps);
    fit.minima[g] = nearest_code(per_minimum * groups[g].minimum, 0, steps);
    const float scale = fit.d.value() * static_cast<float>(fit.scales[g]);
    const float minimum = fit.dmin.value() * static_cast<float>(fit.minima[g]);
    for (size_t l = 0; l < size; ++l) {
      const size_t i = size * g + l;
      fit.codes[i] =
          scale == 0 ? groups[g].codes[l]
                     : static_cast<uint8_t>(nearest_code((values[i] + minimum) / scale, 0, most));
    }
  }
  return fit;
}

CentredBlockFit fit_block(const float* values, std::span<const CentredFit> groups, int steps,
                          int half) {
  CentredBlockFit fit;
  for (const CentredFit& group : groups) {
    if (std::abs(group.scale) > std::abs(fit.largest)) fit.largest = group.scale;
  }
  const float inverse = fit.largest == 0 ? 0 : static_cast<float>(-steps) / fit.largest;
  fit.d = Float16::of(inverse_of(inverse));
  const size_t size = kBlockValues / groups.size();
  for (size_t g = 0; g < groups.size(); ++g) {
    fit.scales[g] = nearest_code(inverse * groups[g].scale, -steps, steps - 1);
    const float scale = fit.d.value() * static_cast<float>(fit.scales[g]);
    for (size_t l = 0; l < size; ++l) {
      const size_t i = size * g + l;
      fit.codes[i] =
          scale == 0
              ? groups[g].codes[l]
              : static_cast<uint8_t>(nearest_code(values[i] / scale, -half, half - 1) + half);
    }
  }
  return fit;
}

}  // namespace schmidt::quant
