#include "schmidt/report/sensitivity_figure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/profile/metric.h"
#include "schmidt/report/axis.h"
#include "schmidt/report/colour.h"
#include "schmidt/report/page.h"
#include "schmidt/report/plot.h"
#include "schmidt/report/svg.h"

namespace schmidt::report {
namespace {

using profile::LayerProfile;
using profile::Profile;
using profile::Setting;

constexpr double kMargin = 16.0;
constexpr int kColumns = 4;
constexpr Box kCell = {0, 0, 262, 226};    // of a panel with its labels
constexpr Box kPlot = {50, 26, 200, 150};  // inside the cell
constexpr double kDeepest = 0.88;          // of the colour scale: yellow is hard to see on white
constexpr double kDecades = 6.0;           // of a logarithmic axis at most

const char* const kKindNames[] = {"",       "q_proj",    "k_proj",  "v_proj",
                                  "o_proj", "gate_proj", "up_proj", "down_proj"};

/// The layers of one kind, by block.
struct Kind {
  std::string label;  // "L1", "L1+L2+L3"
  std::string title;  // "L1 q_proj"
  std::map<int64_t, const LayerProfile*> blocks;
};

std::vector<Kind> kinds_of(const Profile& profile) {
  std::map<std::vector<int>, Kind> kinds;
  for (const LayerProfile& layer : profile.layers) {
    const plan::Layer& l = layer.network.layer;
    Kind& kind = kinds[l.kinds];
    kind.label = l.label();
    kind.title = l.label();
    for (const int k : l.kinds) kind.title += fmt::format(" {}", kKindNames[k]);
    kind.blocks[l.block] = &layer;
  }
  std::vector<Kind> ordered;
  for (auto& [unused, kind] : kinds) ordered.push_back(std::move(kind));
  return ordered;
}

std::vector<int64_t> blocks_of(const Profile& profile) {
  std::vector<int64_t> blocks;
  for (const LayerProfile& layer : profile.layers) blocks.push_back(layer.network.layer.block);
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return blocks;
}

/// What is drawn of a value: the metric, from `low` up where the axis is logarithmic.
struct Range {
  double low, high;
  bool log;

  double position(double value) const {  // 0 to 1
    return Axis(low, high, 0.0, 1.0, log).pixel(value);
  }
};

Range range_of(const Profile& profile) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const LayerProfile& layer : profile.layers) {
    for (const profile::Point& point : layer.points) {
      if (!std::isfinite(point.value)) continue;
      high = std::max(high, point.value);
      if (point.value > 0.0) low = std::min(low, point.value);
    }
  }
  if (!(low < high))
    return {std::min(profile.dense, low), std::max(high, profile.dense + 1), false};
  high = std::max(high, profile.dense);
  if (profile.dense > 0.0) low = std::min(low, profile.dense);
  const bool log = high > 5.0 * low;
  if (!log) return {low - 0.05 * (high - low), high + 0.05 * (high - low), false};
  const double exponent = std::max(std::log10(low), std::log10(high) - kDecades);
  // Room below for the line of the original and its name.
  return {std::pow(10.0, exponent - 0.4), high * 1.4, true};
}

double depth(const std::vector<int64_t>& blocks, int64_t block) {
  if (blocks.size() < 2) return 0.0;
  return kDeepest * static_cast<double>(block - blocks.front()) /
         static_cast<double>(blocks.back() - blocks.front());
}

double x_value(const Profile& profile, const LayerProfile& layer, size_t i) {
  if (profile.setting == Setting::kBonds) return profile.settings[i];
  return 100.0 * static_cast<double>(layer.points[i].parameters) /
         static_cast<double>(layer.network.layer.numel());
}

std::string setting_text(const Profile& profile, size_t i) {
  return profile.setting == Setting::kBonds
             ? fmt::format("bond {:g}", profile.settings[i])
             : fmt::format("{:g} % of the layer kept", 100 * profile.settings[i]);
}

std::string metric_label(const Profile& profile) {
  for (const profile::Metric& metric : profile::metrics()) {
    if (metric.name == profile.metric) return std::string(metric.label);
  }
  return profile.metric;
}

void draw_panel(Svg& svg, const Box& plot, const Profile& profile, const Kind& kind,
                const Range& range, const std::vector<int64_t>& blocks, double x_low,
                double x_high) {
  const Axis x(x_low, x_high, plot.left, plot.right(), false);
  const Axis y(range.low, range.high, plot.bottom(), plot.top, range.log);
  svg.text({plot.left + plot.width / 2, plot.top - 8}, kind.title,
           {kind.title.size() > 24 ? 10.0 : 12.0, Anchor::kMiddle, "#111", true});
  draw_axes(svg, plot, x, y);
  const double dense = y.pixel(profile.dense);
  svg.line({plot.left, dense}, {plot.right(), dense}, {"#c0392b", 1.4, "5 3"});
  // On the left, where lines are high.
  svg.text({plot.left + 4, dense - 4}, fmt::format("dense {:.4g}", profile.dense),
           {9, Anchor::kStart, "#c0392b"});
  for (const auto& [block, layer] : kind.blocks) {
    const std::string colour = scale_colour(depth(blocks, block));
    std::vector<Spot> line;
    std::vector<std::string> tips;
    for (size_t i = 0; i < layer->points.size(); ++i) {
      const profile::Point& point = layer->points[i];
      if (!std::isfinite(point.value)) continue;
      line.push_back({x.pixel(x_value(profile, *layer, i)), y.pixel(point.value)});
      tips.push_back(
          fmt::format("block {}, {}: {:.4g}", block, setting_text(profile, i), point.value));
    }
    svg.polyline(line, {colour, 1.5, ""}, fmt::format("block {}", block));
    for (size_t i = 0; i < line.size(); ++i) svg.dot(line[i], 2.2, colour, tips[i]);
  }
}

/// A bar of the scale with ticks; `label` beside it.
void draw_colour_bar(Svg& svg, const Box& bar, const Axis& axis, const std::string& label,
                     double deepest) {
  constexpr int kSteps = 48;
  const double step = bar.height / kSteps;
  for (int i = 0; i < kSteps; ++i) {
    const double part = 1.0 - (i + 0.5) / kSteps;
    svg.rectangle({bar.left, bar.top + i * step, bar.width, step + 0.5},
                  scale_colour(deepest * part));
  }
  svg.frame(bar, {"#888", 1, ""});
  for (const Axis::Tick& tick : axis.ticks(5)) {
    const double at = axis.pixel(tick.value);
    svg.line({bar.right(), at}, {bar.right() + 4, at}, {"#888", 1, ""});
    svg.text({bar.right() + 7, at + 3.5}, tick.label, {10});
  }
  svg.text({bar.left, bar.top - 8}, label, {11});
}

void draw_legend(Svg& svg, Spot at, const std::vector<int64_t>& blocks) {
  constexpr size_t kNamed = 8;
  if (blocks.size() > kNamed) {
    const Box bar = {at.x, at.y + 20, 16, 130};
    draw_colour_bar(svg, bar,
                    Axis(static_cast<double>(blocks.front()), static_cast<double>(blocks.back()),
                         bar.bottom(), bar.top, false),
                    "block", kDeepest);
    return;
  }
  svg.text({at.x, at.y + 8}, "block", {11});
  for (size_t i = 0; i < blocks.size(); ++i) {
    const double y = at.y + 26 + 16 * static_cast<double>(i);
    const std::string colour = scale_colour(depth(blocks, blocks[i]));
    svg.line({at.x, y - 4}, {at.x + 22, y - 4}, {colour, 2, ""});
    svg.dot({at.x + 11, y - 4}, 2.4, colour);
    svg.text({at.x + 29, y}, std::to_string(blocks[i]), {11});
  }
}

struct Size {
  double width, height;
};

Size panels_size(size_t kinds) {
  const auto cells = static_cast<double>(kinds + 1);  // one for the legend
  const double rows = std::ceil(cells / kColumns);
  return {kCell.width * std::min<double>(kColumns, cells), kCell.height * rows + 24};
}

void draw_panels(Svg& svg, Spot origin, const Profile& profile) {
  const std::vector<Kind> kinds = kinds_of(profile);
  const std::vector<int64_t> blocks = blocks_of(profile);
  const Range range = range_of(profile);
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  for (const LayerProfile& layer : profile.layers) {
    for (size_t i = 0; i < layer.points.size(); ++i) {
      x_low = std::min(x_low, x_value(profile, layer, i));
      x_high = std::max(x_high, x_value(profile, layer, i));
    }
  }
  const double room = 0.03 * (x_high - x_low);
  const bool shares = profile.setting == Setting::kKeep;
  x_low = shares ? 0.0 : x_low - room;
  x_high = shares ? std::max(x_high + room, std::min(100.0, 1.1 * x_high)) : x_high + room;

  const auto cell = [&](size_t i) {
    const auto column = static_cast<double>(i % kColumns), row = static_cast<double>(i / kColumns);
    return Spot{origin.x + column * kCell.width, origin.y + row * kCell.height};
  };
  for (size_t i = 0; i < kinds.size(); ++i) {
    const Spot at = cell(i);
    const Box plot = {at.x + kPlot.left, at.y + kPlot.top, kPlot.width, kPlot.height};
    draw_panel(svg, plot, profile, kinds[i], range, blocks, x_low, x_high);
    svg.text({plot.left + plot.width / 2, plot.bottom() + 31},
             shares ? "% of the layer's parameters" : "bond dimension", {10, Anchor::kMiddle});
    if (i % kColumns == 0) {
      svg.text({at.x + 8, plot.top + plot.height / 2}, metric_label(profile),
               {10, Anchor::kMiddle, "#333", false, 90});
    }
  }
  const Spot legend = cell(kinds.size());
  draw_legend(svg, {legend.x + kPlot.left, legend.y + kPlot.top}, blocks);
}

constexpr double kRow = 17.0;
constexpr double kHeatLeft = 52.0;
constexpr double kHeatTop = 52.0;
constexpr double kBarRoom = 110.0;

double heat_column(const std::vector<Kind>& kinds) { return kinds.size() > 4 ? 92.0 : 130.0; }

Size heat_map_size(const Profile& profile) {
  const auto kinds = kinds_of(profile);
  return {
      kHeatLeft + heat_column(kinds) * static_cast<double>(kinds.size()) + kBarRoom,
      kHeatTop + kRow * std::max<double>(8, static_cast<double>(blocks_of(profile).size())) + 8};
}

void draw_heat_map(Svg& svg, Spot origin, const Profile& profile, size_t setting) {
  const std::vector<Kind> kinds = kinds_of(profile);
  const std::vector<int64_t> blocks = blocks_of(profile);
  const Range range = range_of(profile);
  const double column = heat_column(kinds);
  const Spot at = {origin.x + kHeatLeft, origin.y + kHeatTop};
  svg.text({origin.x, origin.y + 14},
           fmt::format("{} at {}", metric_label(profile), setting_text(profile, setting)),
           {13, Anchor::kStart, "#111", true});
  svg.text({at.x - 8, at.y - 8}, "block", {10, Anchor::kEnd});
  for (size_t k = 0; k < kinds.size(); ++k) {
    const double left = at.x + column * static_cast<double>(k);
    svg.text({left + column / 2, at.y - 8}, kinds.size() > 4 ? kinds[k].title : kinds[k].label,
             {11, Anchor::kMiddle});
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Box box = {left, at.y + kRow * static_cast<double>(b), column - 1, kRow - 1};
      const auto found = kinds[k].blocks.find(blocks[b]);
      if (found == kinds[k].blocks.end()) {
        svg.rectangle(box, "#f2f2f2", "not profiled");
        continue;
      }
      const double value = found->second->points[setting].value;
      const bool finite = std::isfinite(value);
      const double position = finite ? range.position(value) : 1.0;
      const std::string text = finite ? fmt::format("{:.3g}", value) : "broken";
      svg.rectangle(box, scale_colour(position),
                    fmt::format("block {}, {}: {}", blocks[b], kinds[k].title, text));
      svg.text({left + column / 2, box.bottom() - 4}, text,
               {10, Anchor::kMiddle, ink_on(position)});
    }
  }
  for (size_t b = 0; b < blocks.size(); ++b) {
    svg.text({at.x - 8, at.y + kRow * static_cast<double>(b) + 12}, std::to_string(blocks[b]),
             {10, Anchor::kEnd});
  }
  const double right = at.x + column * static_cast<double>(kinds.size());
  const Box bar = {right + 22, at.y, 16, kRow * 8};
  draw_colour_bar(svg, bar, Axis(range.low, range.high, bar.bottom(), bar.top, range.log),
                  profile.metric, 1.0);
}

size_t middle_setting(const Profile& profile) { return profile.settings.size() / 2; }

}  // namespace

std::string sensitivity_svg(const Profile& profile) {
  const Size panels = panels_size(kinds_of(profile).size());
  const Size map = heat_map_size(profile);
  Svg svg(std::max(panels.width, map.width) + 2 * kMargin,
          panels.height + map.height + 3 * kMargin);
  draw_panels(svg, {kMargin, kMargin}, profile);
  draw_heat_map(svg, {kMargin, panels.height + 2 * kMargin}, profile, middle_setting(profile));
  return svg.document();
}

std::string heat_map_svg(const Profile& profile, size_t setting) {
  TORCH_CHECK_VALUE(setting < profile.settings.size(), "[figure] expected a setting below ",
                    profile.settings.size(), ", got ", setting);
  const Size size = heat_map_size(profile);
  Svg svg(size.width + 2 * kMargin, size.height + 2 * kMargin);
  draw_heat_map(svg, {kMargin, kMargin}, profile, setting);
  return svg.document();
}

std::string sensitivity_page(const Profile& profile, const std::string& model) {
  Page page(fmt::format("Sensitivity of the layers of {}", model));
  page.paragraph(fmt::format(
      "Each layer alone is replaced by a tensor network; the rest of the model stays as it was. "
      "Metric: {}; of the original it is {:.6g}. Method: {}.",
      metric_label(profile), profile.dense,
      profile.layers.empty() ? "" : profile.layers.front().network.method));
  const Size panels = panels_size(kinds_of(profile).size());
  Svg svg(panels.width + 2 * kMargin, panels.height + 2 * kMargin);
  draw_panels(svg, {kMargin, kMargin}, profile);
  page.figure(svg.document());
  page.heading("Blocks and kinds of layers");
  for (size_t i = 0; i < profile.settings.size(); ++i) page.figure(heat_map_svg(profile, i));

  page.heading("The numbers");
  std::vector<std::string> header = {"layer", "shape"};
  for (size_t i = 0; i < profile.settings.size(); ++i) header.push_back(setting_text(profile, i));
  std::vector<std::vector<std::string>> rows;
  for (const LayerProfile& layer : profile.layers) {
    const plan::Layer& l = layer.network.layer;
    std::vector<std::string> row = {l.name, fmt::format("{} x {}", l.rows, l.cols)};
    for (const profile::Point& point : layer.points) {
      row.push_back(std::isfinite(point.value) ? fmt::format("{:.4g}", point.value) : "broken");
    }
    rows.push_back(std::move(row));
  }
  page.table(header, rows);
  return page.document();
}

}  // namespace schmidt::report
