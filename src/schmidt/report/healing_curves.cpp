#include "schmidt/report/healing_curves.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "schmidt/report/number_text.h"
#include "schmidt/report/plot.h"

namespace schmidt::report {
namespace {

using nlohmann::json;

constexpr Box kPanel = {0, 0, 420, 290};
constexpr size_t kMostPoints = 1500;  // of a curve: more than pixels across

using Points = std::vector<CurvePoint>;

Points values(const std::map<int64_t, json>& lines, const char* key) {
  Points points;
  for (const auto& [step, line] : lines) {
    const double value = number_of(line, key);
    if (!std::isfinite(value)) continue;
    points.push_back({static_cast<double>(step), value,
                      fmt::format("step {}, {}: {:.5g}", step, spaced(key), value)});
  }
  return points;
}

/// Means of neighbours, so that no more than kMostPoints are left.
Points thinned(const Points& points) {
  const size_t each = (points.size() + kMostPoints - 1) / kMostPoints;
  if (each <= 1) return points;
  Points means;
  for (size_t begin = 0; begin < points.size(); begin += each) {
    const size_t end = std::min(begin + each, points.size());
    CurvePoint mean;
    for (size_t i = begin; i < end; ++i) {
      mean.x += points[i].x / static_cast<double>(end - begin);
      mean.y += points[i].y / static_cast<double>(end - begin);
    }
    means.push_back(mean);
  }
  return means;
}

/// Means of each point with as many before as behind it, a thirtieth of the run in all:
/// a curve that falls is not drawn late.
Points smoothed(const Points& points) {
  const size_t reach = std::max<size_t>(2, points.size() / 60);
  std::vector<double> sums = {0.0};  // of the first 0, 1, ..
  for (const CurvePoint& point : points) sums.push_back(sums.back() + point.y);
  Points means;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t side = std::min({reach, i, points.size() - 1 - i});
    const double mean = (sums[i + side + 1] - sums[i - side]) / static_cast<double>(2 * side + 1);
    means.push_back({points[i].x, mean, ""});
  }
  return means;
}

void add_trained(std::vector<Curve>& curves, const HealingLog& run, const char* key,
                 const std::string& name, Colour pale, Colour colour) {
  const Points points = values(run.steps, key);
  curves.push_back({.name = "", .colour = pale, .points = thinned(points), .width = 1.0});
  curves.push_back(
      {.name = name, .colour = colour, .points = thinned(smoothed(points)), .width = 2.0});
}

void add_dots(std::vector<Curve>& curves, const HealingLog& run, const char* key,
              const std::string& name, Colour colour) {
  Points points = values(run.evaluations, key);
  if (points.empty()) return;
  curves.push_back(
      {.name = name, .colour = colour, .points = std::move(points), .width = 0.0, .radius = 3.5});
}

std::string panel(const PlotLabels& labels, const std::vector<Curve>& curves) {
  Svg svg(kPanel.width, kPanel.height);
  draw_curves(svg, kPanel, labels, curves);
  return svg.document();
}

}  // namespace

std::string loss_figure(const HealingLog& log) {
  std::vector<Curve> loss;
  add_trained(loss, log, "loss", "training, smoothed", kPaleBlue, kBlue);
  loss[0].name = "training";
  add_dots(loss, log, "held_out_loss", "held out", kRed);
  return panel({"Loss", "step", "loss"}, loss);
}

std::string cross_entropy_figure(const HealingLog& log) {
  std::vector<Curve> entropy;
  add_trained(entropy, log, "cross_entropy", "training", kPaleBlue, kBlue);
  add_dots(entropy, log, "held_out_cross_entropy", "held out", kRed);
  return panel({"Cross entropy to the text", "step", "nats a token"}, entropy);
}

std::string kl_figure(const HealingLog& log) {
  std::vector<Curve> kl;
  add_trained(kl, log, "kl", "training", kPaleGreen, kGreen);
  add_dots(kl, log, "held_out_kl", "held out", kRed);
  return panel({.title = "KL divergence from the original",
                .x = "step",
                .y = "nats a token",
                .original = 0.0},
               kl);
}

std::vector<std::string> step_figures(const HealingLog& log) {
  std::vector<std::string> figures;
  const std::vector<std::pair<const char*, PlotLabels>> others = {
      {"learning_rate", {.title = "Learning rate", .x = "step", .linear = true}},
      {"gradient_norm", {"Gradient norm before clipping", "step", ""}},
      {"tokens_per_second", {"Speed", "step", "tokens a second"}},
      {"memory", {"Memory", "step", "GB"}}};
  for (const auto& [key, labels] : others) {
    Points points = values(log.steps, key);
    if (key == std::string_view("memory")) {
      for (CurvePoint& point : points) point.y /= 1e9;
    }
    figures.push_back(panel(labels, {{.colour = kBlue, .points = thinned(points), .width = 1.3}}));
  }
  return figures;
}

std::string block_figure(const HealingLog& log) {
  const auto points = [&](const char* key) {
    Points all;
    for (const json& line : log.blocks) {
      all.push_back({number_of(line, "block"), number_of(line, key),
                     fmt::format("block {}, {}: {}", figure(number_of(line, "block")), spaced(key),
                                 figure(number_of(line, key)))});
    }
    return all;
  };
  return panel(
      {.title = "Error of each block's output",
       .x = "block",
       .y = "relative error",
       .original = 0.0},
      {{.name = "before", .colour = kOrange, .points = points("error_before"), .radius = 3},
       {.name = "after", .colour = kBlue, .points = points("error_after"), .radius = 3}});
}

}  // namespace schmidt::report
