#include "schmidt/report/colour.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

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

}  // namespace

std::string scale_colour(double position) {
  const double at = std::clamp(position, 0.0, 1.0) * static_cast<double>(kScale.size() - 1);
  const auto below = std::min(static_cast<size_t>(at), kScale.size() - 2);
  const double part = at - static_cast<double>(below);
  const auto channel = [&](size_t c) {
    return static_cast<int>(
        std::lround(kScale[below][c] + part * (kScale[below + 1][c] - kScale[below][c])));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2));
}

std::string ink_on(double position) { return position < 0.6 ? "#fff" : "#000"; }

}  // namespace schmidt::report
