#pragma once

#include <optional>
#include <string>
#include <vector>

#include "schmidt/report/axis.h"
#include "schmidt/report/svg.h"

namespace schmidt::report {

constexpr double kTickSize = 10.0;  ///< of the text at ticks, in pixels

/// Pixels that the labels of a vertical axis take at its left.
double labels_width(const Axis& y);

/// Frame, horizontal lines and labels of a plot. Below it the labels take 22 pixels.
void draw_axes(Svg& svg, const Box& plot, const Axis& x, const Axis& y);

struct CurvePoint {
  double x = 0.0, y = 0.0;
  std::string tip;  ///< may be empty
};

/// Points of one quantity, in order of x.
struct Curve {
  std::string name;  ///< in the legend; empty: not in it
  Colour colour = kInk;
  std::vector<CurvePoint> points;
  double width = 1.5;   ///< of the line; 0: dots alone
  double radius = 0.0;  ///< of the dots; 0: a line alone
};

struct PlotLabels {
  std::string title, x, y = {};         ///< of the plot and its axes
  bool linear = false;                  ///< never a logarithmic axis
  std::optional<double> original = {};  ///< value of the original model: a line of its own
};

/// Curves in one plot whose ranges hold all of them: `cell` with title, legend, axes, with
/// room for their labels. Points that are not finite are left out. Logarithmic, unless `linear`,
/// where the values shown are above 0 and the largest is 30 times the least or more. Values that
/// would flatten the others (largest_shown) are arrowheads at the upper edge, and the legend says
/// so.
void draw_curves(Svg& svg, const Box& cell, const PlotLabels& labels,
                 const std::vector<Curve>& curves);

}  // namespace schmidt::report
