#include "schmidt/report/axis.h"

#include <algorithm>
#include <cmath>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/report/text_layout.h"

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
  if (size >= 1e-3 && size < 1e5) return fmt::format("{:g}", value);
  // The fewest digits that are still the number, to six: neighbouring ticks have their own names.
  for (int digits = 0; digits < 5; ++digits) {
    std::string text = fmt::format("{:.{}e}", value, digits);
    if (std::abs(std::stod(text) - value) <= 1e-6 * size) return text;
  }
  return fmt::format("{:.5e}", value);
}

double largest_shown(std::vector<double> values, bool log) {
  TORCH_INTERNAL_ASSERT(!values.empty());
  std::sort(values.begin(), values.end());
  const auto place = [&](size_t i) { return log ? std::log10(values[i]) : values[i]; };
  const double span = place(values.size() - 1) - place(0);
  for (size_t i = (3 * values.size() + 3) / 4; i < values.size(); ++i) {
    const double gap = place(i) - place(i - 1);
    if (span > 0 && (log ? gap > 1.0 && gap > 0.4 * span : gap > 0.8 * span)) return values[i - 1];
  }
  return values.back();
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

std::vector<Axis::Tick> Axis::ticks_side_by_side(double size) const {
  constexpr int kMost = 8;
  constexpr double kBetween = 10.0;
  for (int count = kMost; count > 1; --count) {
    std::vector<Tick> found = ticks(count);
    double right = -1e9;
    bool apart = true;
    for (const Tick& tick : found) {
      const double half = text_width(tick.label, size) / 2;
      apart = apart && pixel(tick.value) - half >= right;
      right = pixel(tick.value) + half + kBetween;
    }
    if (apart) return found;
  }
  return ticks(1);
}

}  // namespace schmidt::report
