#pragma once

#include <string>
#include <vector>

namespace schmidt::report {

/// A range of values on a line of pixels, linear or logarithmic.
class Axis {
 public:
  /// from and to: pixels of low and high. A range without width, or next to none, is given one.
  /// log: low has to be above 0.
  Axis(double low, double high, double from, double to, bool log);

  double pixel(double value) const;  ///< values outside stay at the ends
  double low() const { return low_; }
  double high() const { return high_; }

  struct Tick {
    double value;
    std::string label;
  };
  /// About `count` round values inside the range; powers of ten on a wide logarithmic one.
  std::vector<Tick> ticks(int count) const;
  /// As many as their labels, in text of this size, leave room for side by side; 8 at most.
  std::vector<Tick> ticks_side_by_side(double size) const;

 private:
  double low_, high_, from_, to_;
  bool log_;
};

/// "0.25", "1e-05", "1.5e-04", "1200": short, exact for round numbers.
std::string short_number(double value);

/// The largest value that an axis has to show: all of them, but for a few, a quarter at most,
/// that lie so far above the others that these would be pressed flat: the gap between takes 0.8 of
/// a linear axis, or a power of ten and 0.4 of a logarithmic one. `values` must not be empty; log:
/// they are above 0.
double largest_shown(std::vector<double> values, bool log);

}  // namespace schmidt::report
