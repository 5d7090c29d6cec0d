#include "schmidt/report/frontier_figure.h"

#include <fmt/format.h>

#include "schmidt/report/colour.h"
#include "schmidt/report/plot.h"
#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

constexpr Box kFigure = {0, 0, 620, 400};

}  // namespace

std::string frontier_svg(const std::vector<FrontierCurve>& curves, const CostAxis& axis) {
  const Colour colours[] = {kBlue, kRed, kGreen};
  std::vector<Curve> drawn;
  for (size_t i = 0; i < curves.size(); ++i) {
    // The bold line lies below those that it coincides with.
    drawn.push_back({.name = curves[i].name,
                     .colour = colours[i % std::size(colours)],
                     .width = i == 0 ? 4.0 : 1.6});
    for (const auto& [cost, loss] : curves[i].points) {
      if (loss <= 0) continue;
      drawn.back().points.push_back({cost, loss,
                                     fmt::format("{}, {:.3g} {}: {:.3g} nats a token",
                                                 curves[i].name, cost, axis.unit, loss)});
    }
  }
  Svg svg(kFigure.width, kFigure.height);
  draw_curves(svg, kFigure,
              {.title = axis.title, .x = axis.label, .y = "predicted loss, nats a token"}, drawn);
  return svg.document();
}

}  // namespace schmidt::report
