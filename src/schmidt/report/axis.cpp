#include "schmidt/report/axis.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace schmidt::report {
namespace {

/// The least of 1, 2, 5 times a power of ten that is not below `value`.
double round_step(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

}  // namespace

std::string short_number(double value) {
  if (value == 0.0) return "0";
  const double size = std::abs(value);
  return size >= 1e5 || size < 1e-3 ? fmt::format("{:.0e}", value) : fmt::format("{:g}", value);
}

Axis::Axis(double low, double high, double from, double to, bool log)
    : low_(low), high_(high), from_(from), to_(to), log_(log) {
  // Narrower than its numbers' last digits, a range has no round values to count through.
  if (high_ - low_ > 1e-9 * std::max(std::abs(low_), std::abs(high_))) return;
  if (log_) {
    low_ /= 2;
    high_ = 2 * high;
  } else {
    low_ -= 0.5;
    high_ = high + 0.5;
  }
}

double Axis::pixel(double value) const {
  const double v = std::clamp(value, low_, high_);
  const double part =
      log_ ? std::log(v / low_) / std::log(high_ / low_) : (v - low_) / (high_ - low_);
  return from_ + part * (to_ - from_);
}

std::vector<Axis::Tick> Axis::ticks(int count) const {
  std::vector<Tick> ticks;
  const auto add = [&](double value) {
    if (value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9)) {
      ticks.push_back({value, short_number(value)});
    }
  };
  if (log_) {
    const double decades = std::log10(high_ / low_);
    const int every = std::max(1, static_cast<int>(std::ceil(decades / count)));
    for (int p = static_cast<int>(std::floor(std::log10(low_))); p <= std::log10(high_); ++p) {
      if (p % every != 0) continue;
      add(std::pow(10.0, p));
      if (decades > 2.0) continue;
      add(2 * std::pow(10.0, p));
      add(5 * std::pow(10.0, p));
    }
    return ticks;
  }
  const double step = round_step((high_ - low_) / count);
  for (double i = std::ceil(low_ / step - 1e-9); i * step <= high_ + 1e-9 * step; ++i) {
    const double value = i * step;
    ticks.push_back({value, short_number(std::abs(value) < 1e-12 ? 0.0 : value)});
  }
  return ticks;
}

}  // namespace schmidt::report
