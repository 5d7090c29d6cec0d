#include "schmidt/heal/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace schmidt::heal {

double Schedule::rate(int64_t step) const {
  const auto rising = static_cast<int64_t>(std::ceil(warmup * static_cast<double>(steps)));
  const int64_t s = std::min(step, steps - 1);
  if (s < rising) return peak * static_cast<double>(s + 1) / static_cast<double>(rising);
  const double way =
      static_cast<double>(s - rising) / static_cast<double>(std::max<int64_t>(steps - rising, 1));
  const double cosine = (1.0 + std::cos(std::numbers::pi * way)) / 2.0;
  return peak * (final_share + (1.0 - final_share) * cosine);
}

}  // namespace schmidt::heal
