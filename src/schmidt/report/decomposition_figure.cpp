#include "schmidt/report/decomposition_figure.h"

#include <algorithm>
#include <cmath>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/report/number_text.h"
#include "schmidt/report/plot.h"
#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

constexpr double kAcross = 460.0;
constexpr double kNode = 15.0;  // radius of a tensor
constexpr double kLeg = 20.0;
constexpr double kSmall = 11.0;
constexpr double kRowHeight = 128.0;

/// A tensor with its two legs: rows below, columns above.
void draw_tensor(Svg& svg, Spot at, int64_t rows, int64_t cols, bool whole) {
  svg.line({at.x, at.y - kNode - kLeg}, {at.x, at.y + kNode + kLeg}, {kInk, 1.4, ""});
  if (whole) {
    svg.rectangle({at.x - kNode, at.y - kNode, 2 * kNode, 2 * kNode}, kRed);
  } else {
    svg.dot(at, kNode, kBlue);
  }
  svg.text({at.x, at.y - kNode - kLeg - 5}, grouped(cols), {kSmall, Anchor::kMiddle});
  svg.text({at.x, at.y + kNode + kLeg + 13}, grouped(rows), {kSmall, Anchor::kMiddle});
}

}  // namespace

Decomposition decompose(int64_t rows, int64_t cols) {
  TORCH_CHECK_VALUE(rows >= 1 && cols >= 1, "[decompose] expected a matrix, got ", rows, " x ",
                    cols);
  Decomposition decomposition{rows, cols, {}};
  for (const int64_t sites : {2, 3}) {
    try {
      decomposition.shapes.push_back(tn::balanced_shape(rows, cols, sites));
    } catch (const c10::ValueError&) {  // too few factors for so many sites
    }
  }
  return decomposition;
}

int64_t parameters_at(const tn::SiteShape& shape, int64_t chi) {
  std::vector<int64_t> bonds = tn::full_bonds(shape);
  for (int64_t& bond : bonds) bond = std::min(bond, chi);
  return tn::parameter_count(shape, bonds);
}

int64_t last_saving_bond(const Decomposition& decomposition, const tn::SiteShape& shape) {
  const std::vector<int64_t> full = tn::full_bonds(shape);
  int64_t low = 0, high = *std::ranges::max_element(full);
  while (low < high) {  // the count rises with chi
    const int64_t middle = low + (high - low + 1) / 2;
    if (parameters_at(shape, middle) < decomposition.numel()) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

std::string count_formula(const tn::SiteShape& shape) {
  std::string text;
  for (size_t k = 0; k < shape.out_dims.size(); ++k) {
    const bool is_end = k == 0 || k + 1 == shape.out_dims.size();
    text += fmt::format("{}{} {}", k == 0 ? "" : " + ",
                        grouped(shape.out_dims[k] * shape.in_dims[k]), is_end ? "χ" : "χ²");
  }
  return text;
}

std::string network_svg(const Decomposition& decomposition) {
  const auto networks = static_cast<double>(decomposition.shapes.size());
  Svg svg(kAcross, 36 + kRowHeight * (networks + 1));
  svg.text({12, 23}, "A weight as a Matrix Product Operator", {13, Anchor::kStart, kTitle, true});
  double y = 36 + kRowHeight / 2;
  constexpr double kFirst = 60.0, kApart = 62.0, kWords = 236.0;
  draw_tensor(svg, {kFirst, y}, decomposition.rows, decomposition.cols, true);
  svg.paragraph({kWords, y - 4}, "the weight W", kAcross - kWords - 12,
                {12, Anchor::kStart, kTitle, true});
  svg.text({kWords, y + 13}, fmt::format("{} numbers", grouped(decomposition.numel())), {kSmall});
  for (const tn::SiteShape& shape : decomposition.shapes) {
    y += kRowHeight;
    const auto sites = static_cast<double>(shape.sites());
    svg.line({kFirst, y}, {kFirst + kApart * (sites - 1), y}, {kInk, 1.4, ""});
    for (int64_t k = 0; k < shape.sites(); ++k) {
      const double x = kFirst + kApart * static_cast<double>(k);
      draw_tensor(svg, {x, y}, shape.out_dims[static_cast<size_t>(k)],
                  shape.in_dims[static_cast<size_t>(k)], false);
      if (k > 0) svg.text({x - kApart / 2, y - 6}, "χ", {kSmall, Anchor::kMiddle});
    }
    svg.text({kWords, y - 4}, fmt::format("{} sites", shape.sites()),
             {12, Anchor::kStart, kTitle, true});
    svg.text({kWords, y + 13}, count_formula(shape) + " numbers", {kSmall});
  }
  return svg.document();
}

std::string parameters_svg(const Decomposition& decomposition) {
  constexpr Box kBox = {0, 0, kAcross, 340};
  constexpr int64_t kPoints = 60;
  const Colour colours[] = {kBlue, kOrange};
  int64_t last = 1;
  for (const tn::SiteShape& shape : decomposition.shapes) {
    last = std::max(last, last_saving_bond(decomposition, shape));
  }
  last += last / 10;
  std::vector<Curve> curves;
  for (size_t i = 0; i < decomposition.shapes.size(); ++i) {
    const tn::SiteShape& shape = decomposition.shapes[i];
    Curve& curve = curves.emplace_back();
    curve.name = fmt::format("{} sites", shape.sites());
    curve.colour = colours[i % std::size(colours)];
    curve.width = 2.0;
    const std::vector<int64_t> full = tn::full_bonds(shape);
    const int64_t end = std::min({last, *std::ranges::max_element(full),
                                  last_saving_bond(decomposition, shape) * 11 / 10 + 1});
    for (int64_t p = 0; p <= kPoints; ++p) {
      const int64_t chi = 1 + (end - 1) * p / kPoints;
      if (!curve.points.empty() && curve.points.back().x == static_cast<double>(chi)) continue;
      curve.points.push_back(
          {static_cast<double>(chi), 1e-3 * static_cast<double>(parameters_at(shape, chi)), ""});
    }
  }
  Svg svg(kBox.width, kBox.height);
  PlotLabels labels{.title = "Numbers stored against the bond dimension",
                    .x = "bond dimension χ",
                    .y = "thousands of numbers",
                    .linear = true};
  labels.original = 1e-3 * static_cast<double>(decomposition.numel());
  draw_curves(svg, kBox, labels, curves);
  return svg.document();
}

}  // namespace schmidt::report
