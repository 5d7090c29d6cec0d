#include "schmidt/report/colour.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

namespace schmidt::report {
namespace {

constexpr std::array<std::array<double, 3>, 9> kScale = {{{68, 1, 84},
                                                          {71, 44, 122},
                                                          {59, 81, 139},
                                                          {44, 113, 142},
                                                          {33, 144, 141},
                                                          {39, 173, 129},
                                                          {92, 200, 99},
                                                          {170, 220, 50},
                                                          {253, 231, 37}}};
constexpr double kDeepest = 0.88;    // yellow is hard to see on white,
constexpr double kShallowest = 0.3;  // violet on black

uint32_t on_scale(double position) {
  const double at = std::clamp(position, 0.0, 1.0) * static_cast<double>(kScale.size() - 1);
  const auto below = std::min(static_cast<size_t>(at), kScale.size() - 2);
  const double part = at - static_cast<double>(below);
  uint32_t colour = 0;
  for (size_t c = 0; c < 3; ++c) {
    const double channel = kScale[below][c] + part * (kScale[below + 1][c] - kScale[below][c]);
    colour = 256 * colour + static_cast<uint32_t>(std::lround(channel));
  }
  return colour;
}

}  // namespace

Colour scale_colour(double position) { return {on_scale(position), on_scale(position)}; }

Colour line_colour(double position) {
  return {on_scale(kDeepest * position), on_scale(kShallowest + (1.0 - kShallowest) * position)};
}

Colour ink_on(double position) {
  // Relative luminance of WCAG 2.1; from 0.179 on black has more contrast than white.
  const uint32_t colour = on_scale(position);
  double luminance = 0.0;
  for (const auto& [shift, weight] : {std::pair{16, 0.2126}, {8, 0.7152}, {0, 0.0722}}) {
    const double channel = ((colour >> shift) & 0xFFU) / 255.0;
    luminance +=
        weight * (channel <= 0.04045 ? channel / 12.92 : std::pow((channel + 0.055) / 1.055, 2.4));
  }
  return luminance < 0.179 ? Colour{0xffffff, 0xffffff} : Colour{0x000000, 0x000000};
}

}  // namespace schmidt::report
