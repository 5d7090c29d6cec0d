#include "schmidt/report/sensitivity_figure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/profile/metric.h"
#include "schmidt/report/axis.h"
#include "schmidt/report/colour.h"
#include "schmidt/report/page.h"
#include "schmidt/report/plot.h"
#include "schmidt/report/svg.h"
#include "schmidt/report/text_layout.h"

namespace schmidt::report {
namespace {

using profile::LayerProfile;
using profile::Profile;
using profile::Setting;

constexpr double kMargin = 10.0;
constexpr int kColumns = 4;
constexpr double kCellWidth = 292.0;   // of a panel with its labels
constexpr double kPlotHeight = 180.0;  // inside the cell
constexpr double kLabel = 10.0;        // size of axis labels,
constexpr double kPanelTitle = 12.0;   // of titles of panels and of maps
constexpr double kDecades = 6.0;       // of a logarithmic axis at most

const char* const kKindNames[] = {"",       "q_proj",    "k_proj",  "v_proj",
                                  "o_proj", "gate_proj", "up_proj", "down_proj"};

/// The layers of one kind, by block.
struct Kind {
  std::string label;               // "L1", "L1+L2+L3"
  std::string title;               // "L1 q_proj"
  std::vector<std::string> lines;  // "L1", "q"
  std::map<int64_t, const LayerProfile*> blocks;
};

std::vector<Kind> kinds_of(const Profile& profile) {
  std::map<std::pair<std::vector<int>, std::optional<int64_t>>, Kind> kinds;
  for (const LayerProfile& layer : profile.layers) {
    const plan::Layer& l = layer.network.layer;
    Kind& kind = kinds[{l.paper_numbers, l.expert}];
    kind.label = l.label();
    kind.title = l.label();
    kind.lines = {l.label()};
    for (const int k : l.paper_numbers) {
      kind.title += fmt::format(" {}", kKindNames[k]);
      const std::string_view name = kKindNames[k];
      kind.lines.emplace_back(name.substr(0, name.find('_')));
    }
    if (l.expert) {
      kind.title += fmt::format(", expert {}", *l.expert);
      kind.lines.push_back(fmt::format("expert {}", *l.expert));
    }
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
  double shown;  // larger values are beyond the axis

  double position(double value) const {  // 0 to 1
    return Axis(low, high, 0.0, 1.0, log).pixel(value);
  }
};

Range range_of(const Profile& profile) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  std::vector<double> values;
  for (const LayerProfile& layer : profile.layers) {
    for (const profile::Point& point : layer.points) {
      if (!std::isfinite(point.value)) continue;
      values.push_back(point.value);
      high = std::max(high, point.value);
      if (point.value > 0.0) low = std::min(low, point.value);
    }
  }
  if (!(low < high)) {
    low = std::min(profile.dense, low);
    high = std::max(high, profile.dense + 1);
    return {low, high, false, high};
  }
  std::erase_if(values, [](double value) { return value <= 0.0; });
  high = std::max(largest_shown(values, high > 5.0 * low), profile.dense);
  const double shown = high;
  if (profile.dense > 0.0) low = std::min(low, profile.dense);
  const bool log = high > 5.0 * low;
  if (!log) return {low - 0.05 * (high - low), high + 0.05 * (high - low), false, shown};
  const double exponent = std::max(std::log10(low), std::log10(high) - kDecades);
  // Room below for the line of the original and its name.
  return {std::pow(10.0, exponent - 0.4), high * 1.4, true, shown};
}

/// Of a block among the others, 0 to 1.
double depth(const std::vector<int64_t>& blocks, int64_t block) {
  if (blocks.size() < 2) return 0.0;
  return static_cast<double>(block - blocks.front()) /
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

/// What all panels of a profile share.
struct Panels {
  std::vector<Kind> kinds;
  std::vector<int64_t> blocks;
  Range range;
  double x_low, x_high;
  std::string x_label, y_label;
  double left, head;  // from a cell's corner to its plot's

  double cell_height() const { return head + kPlotHeight + 22 + 2 * line_height(kLabel); }
  size_t cells() const { return kinds.size() + 1; }  // one for the legend
};

Panels panels_of(const Profile& profile) {
  Panels panels = {.kinds = kinds_of(profile),
                   .blocks = blocks_of(profile),
                   .range = range_of(profile),
                   .x_low = std::numeric_limits<double>::infinity(),
                   .x_high = -std::numeric_limits<double>::infinity(),
                   .x_label = "% of the layer's parameters",
                   .y_label = metric_label(profile)};
  for (const LayerProfile& layer : profile.layers) {
    for (size_t i = 0; i < layer.points.size(); ++i) {
      panels.x_low = std::min(panels.x_low, x_value(profile, layer, i));
      panels.x_high = std::max(panels.x_high, x_value(profile, layer, i));
    }
  }
  const double room = 0.03 * (panels.x_high - panels.x_low);
  if (profile.setting == Setting::kKeep) {
    panels.x_low = 0.0;
    panels.x_high = std::max(panels.x_high + room, std::min(100.0, 1.1 * panels.x_high));
  } else {
    panels.x_label = "bond dimension";
    panels.x_low -= room;
    panels.x_high += room;
  }
  const auto label_lines = static_cast<double>(wrapped(panels.y_label, kPlotHeight, kLabel).size());
  const Axis y(panels.range.low, panels.range.high, kPlotHeight, 0, panels.range.log);
  panels.left = 6 + label_lines * line_height(kLabel) + 6 + labels_width(y);
  size_t title_lines = 1;
  for (const Kind& kind : panels.kinds) {
    title_lines = std::max(
        title_lines, wrapped(kind.title, kCellWidth - panels.left - 16, kPanelTitle, true).size());
  }
  panels.head = 8 + line_height(kPanelTitle) * static_cast<double>(title_lines);
  return panels;
}

void draw_panel(Svg& svg, Spot at, const Profile& profile, const Panels& panels, const Kind& kind) {
  const Range& range = panels.range;
  const Box plot = {at.x + panels.left, at.y + panels.head, kCellWidth - panels.left - 16,
                    kPlotHeight};
  const Axis x(panels.x_low, panels.x_high, plot.left, plot.right(), false);
  const Axis y(range.low, range.high, plot.bottom(), plot.top, range.log);
  svg.paragraph({plot.left, at.y + 13}, kind.title, plot.width,
                {kPanelTitle, Anchor::kStart, kTitle, true});
  draw_axes(svg, plot, x, y);
  svg.text({plot.left + plot.width / 2, plot.bottom() + 33}, panels.x_label,
           {kLabel, Anchor::kMiddle});
  svg.paragraph({at.x + 15, plot.top + plot.height / 2}, panels.y_label, plot.height,
                {kLabel, Anchor::kMiddle, kInk, false, 90});
  const double dense = y.pixel(profile.dense);
  svg.line({plot.left, dense}, {plot.right(), dense}, {kRed, 1.4, "5 3"});
  // On the left, where lines are high.
  svg.text({plot.left + 4, dense - 4}, fmt::format("dense {:.4g}", profile.dense),
           {9, Anchor::kStart, kRed});
  for (const auto& [block, layer] : kind.blocks) {
    const Colour colour = line_colour(depth(panels.blocks, block));
    std::vector<Spot> line;
    std::vector<std::string> tips;
    std::vector<bool> beyond;
    for (size_t i = 0; i < layer->points.size(); ++i) {
      const profile::Point& point = layer->points[i];
      if (!std::isfinite(point.value)) continue;
      line.push_back({x.pixel(x_value(profile, *layer, i)), y.pixel(point.value)});
      tips.push_back(
          fmt::format("block {}, {}: {:.4g}", block, setting_text(profile, i), point.value));
      beyond.push_back(point.value > range.shown);
    }
    svg.polyline(line, {colour, 1.5, ""}, fmt::format("block {}", block));
    for (size_t i = 0; i < line.size(); ++i) {
      if (beyond[i]) {
        svg.arrowhead(line[i], colour, tips[i]);
      } else {
        svg.dot(line[i], 2.2, colour, tips[i]);
      }
    }
  }
}

/// A bar of a scale of colours, with ticks below and `label` above.
void draw_colour_bar(Svg& svg, const Box& bar, const Axis& axis, const std::string& label,
                     Colour (*colour)(double)) {
  constexpr int kSteps = 48;
  const double step = bar.width / kSteps;
  for (int i = 0; i < kSteps; ++i) {
    svg.rectangle({bar.left + i * step, bar.top, step + 0.5, bar.height},
                  colour((i + 0.5) / kSteps));
  }
  svg.frame(bar, {kFrame, 1, ""});
  for (const Axis::Tick& tick : axis.ticks_side_by_side(kTickSize)) {
    const double at = axis.pixel(tick.value);
    svg.line({at, bar.bottom()}, {at, bar.bottom() + 4}, {kFrame, 1, ""});
    svg.text({at, bar.bottom() + 15}, tick.label, {kTickSize, Anchor::kMiddle});
  }
  svg.text({bar.left, bar.top - 6}, label, {11});
}

void draw_legend(Svg& svg, Spot at, const Profile& profile, const Panels& panels) {
  constexpr size_t kNamed = 8;
  const std::vector<int64_t>& blocks = panels.blocks;
  const double left = at.x + 24;
  double y = at.y + panels.head;
  if (blocks.size() > kNamed) {
    const Box bar = {left, y + 14, kCellWidth - 60, 14};
    draw_colour_bar(svg, bar,
                    Axis(static_cast<double>(blocks.front()), static_cast<double>(blocks.back()),
                         bar.left, bar.right(), false),
                    "block", line_colour);
    y += 60;
  } else {
    svg.text({left, y + 8}, "block", {11});
    y += 26;
    for (const int64_t block : blocks) {
      const Colour colour = line_colour(depth(blocks, block));
      svg.line({left, y - 4}, {left + 22, y - 4}, {colour, 2, ""});
      svg.dot({left + 11, y - 4}, 2.4, colour);
      svg.text({left + 29, y}, std::to_string(block), {11});
      y += 16;
    }
  }
  size_t beyond = 0;
  double largest = 0.0;
  for (const LayerProfile& layer : profile.layers) {
    for (const profile::Point& point : layer.points) {
      if (!std::isfinite(point.value) || point.value <= panels.range.shown) continue;
      ++beyond;
      largest = std::max(largest, point.value);
    }
  }
  if (beyond == 0) return;
  svg.arrowhead({left + 4, y - 1}, kInk);
  svg.paragraph({left + 14, y + 8},
                fmt::format("beyond the axis: {}, up to {:.3g}", beyond, largest), kCellWidth - 60,
                {kLabel});
}

struct Size {
  double width, height;
};

Size panels_size(const Panels& panels) {
  const auto cells = static_cast<double>(panels.cells());
  const double rows = std::ceil(cells / kColumns);
  return {kCellWidth * std::min<double>(kColumns, cells), panels.cell_height() * rows};
}

/// The i-th panel, or the legend behind the last.
void draw_cell(Svg& svg, Spot at, const Profile& profile, const Panels& panels, size_t i) {
  if (i < panels.kinds.size()) {
    draw_panel(svg, at, profile, panels, panels.kinds[i]);
  } else {
    draw_legend(svg, at, profile, panels);
  }
}

void draw_panels(Svg& svg, Spot origin, const Profile& profile, const Panels& panels) {
  for (size_t i = 0; i < panels.cells(); ++i) {
    const auto column = static_cast<double>(i % kColumns), row = static_cast<double>(i / kColumns);
    draw_cell(svg, {origin.x + column * kCellWidth, origin.y + row * panels.cell_height()}, profile,
              panels, i);
  }
}

constexpr double kRow = 17.0;
constexpr double kName = 10.0;  // size of the names over the columns

/// Where the parts of a heat map lie, from its corner.
struct HeatMap {
  std::vector<Kind> kinds;
  std::vector<int64_t> blocks;
  Range range;
  std::vector<std::string> title;
  double left, top, column, width, height;
};

std::string cell_text(double value) {
  return std::isfinite(value) ? fmt::format("{:.2g}", value) : "broken";
}

HeatMap heat_map_of(const Profile& profile, size_t setting) {
  HeatMap map = {.kinds = kinds_of(profile),
                 .blocks = blocks_of(profile),
                 .range = range_of(profile),
                 .left = text_width("block", kLabel) + 8,
                 .column = 40.0};
  size_t lines = 1;
  for (const Kind& kind : map.kinds) {
    lines = std::max(lines, kind.lines.size());
    for (const std::string& line : kind.lines) {
      map.column = std::max(map.column, text_width(line, kName) + 4);
    }
    for (const auto& [block, layer] : kind.blocks) {
      map.column =
          std::max(map.column, text_width(cell_text(layer->points[setting].value), kLabel) + 4);
    }
  }
  const auto columns = static_cast<double>(map.kinds.size());
  map.width = std::max(map.left + map.column * columns, 250.0);
  map.title =
      wrapped(fmt::format("{} at {}", metric_label(profile), setting_text(profile, setting)),
              map.width, kPanelTitle, true);
  map.top = line_height(kPanelTitle) * static_cast<double>(map.title.size()) + 6 +
            line_height(kName) * static_cast<double>(lines) + 4;
  map.height = map.top + kRow * static_cast<double>(map.blocks.size()) + 64;
  return map;
}

void draw_heat_map(Svg& svg, Spot origin, const Profile& profile, const HeatMap& map,
                   size_t setting) {
  const Spot at = {origin.x + map.left, origin.y + map.top};
  for (size_t i = 0; i < map.title.size(); ++i) {
    svg.text({origin.x, origin.y + 12 + line_height(kPanelTitle) * static_cast<double>(i)},
             map.title[i], {kPanelTitle, Anchor::kStart, kTitle, true});
  }
  svg.text({at.x - 6, at.y - 6}, "block", {kLabel, Anchor::kEnd});
  for (size_t k = 0; k < map.kinds.size(); ++k) {
    const Kind& kind = map.kinds[k];
    const double left = at.x + map.column * static_cast<double>(k);
    for (size_t i = 0; i < kind.lines.size(); ++i) {
      const auto above = static_cast<double>(kind.lines.size() - 1 - i);
      svg.text({left + map.column / 2, at.y - 6 - line_height(kName) * above}, kind.lines[i],
               {kName, Anchor::kMiddle});
    }
    for (size_t b = 0; b < map.blocks.size(); ++b) {
      const Box box = {left, at.y + kRow * static_cast<double>(b), map.column - 1, kRow - 1};
      const auto found = kind.blocks.find(map.blocks[b]);
      if (found == kind.blocks.end()) {
        svg.rectangle(box, kEmpty, "not profiled");
        continue;
      }
      const double value = found->second->points[setting].value;
      const bool finite = std::isfinite(value);
      const double position = finite ? map.range.position(value) : 1.0;
      svg.rectangle(box, scale_colour(position),
                    fmt::format("block {}, {}: {}", map.blocks[b], kind.title,
                                finite ? fmt::format("{:.4g}", value) : "broken"));
      svg.text({left + map.column / 2, box.bottom() - 4}, cell_text(value),
               {kLabel, Anchor::kMiddle, ink_on(position)});
    }
  }
  for (size_t b = 0; b < map.blocks.size(); ++b) {
    svg.text({at.x - 6, at.y + kRow * static_cast<double>(b) + 12}, std::to_string(map.blocks[b]),
             {kLabel, Anchor::kEnd});
  }
  const Box bar = {at.x, at.y + kRow * static_cast<double>(map.blocks.size()) + 26,
                   map.width - map.left - 20, 12};
  draw_colour_bar(svg, bar,
                  Axis(map.range.low, map.range.high, bar.left, bar.right(), map.range.log),
                  profile.metric, scale_colour);
}

size_t middle_setting(const Profile& profile) { return profile.settings.size() / 2; }

}  // namespace

std::string metric_label(const Profile& profile) {
  for (const profile::Metric* metric : profile::metrics()) {
    if (metric->name == profile.metric) return std::string(metric->label);
  }
  return profile.metric;
}

std::string sensitivity_svg(const Profile& profile) {
  const Panels panels = panels_of(profile);
  const Size size = panels_size(panels);
  const size_t setting = middle_setting(profile);
  const HeatMap map = heat_map_of(profile, setting);
  Svg svg(std::max(size.width, map.width) + 2 * kMargin, size.height + map.height + 3 * kMargin);
  draw_panels(svg, {kMargin, kMargin}, profile, panels);
  draw_heat_map(svg, {kMargin, size.height + 2 * kMargin}, profile, map, setting);
  return svg.document();
}

std::string heat_map_svg(const Profile& profile, size_t setting) {
  TORCH_CHECK_VALUE(setting < profile.settings.size(), "[figure] expected a setting below ",
                    profile.settings.size(), ", got ", setting);
  const HeatMap map = heat_map_of(profile, setting);
  Svg svg(map.width + 2 * kMargin, map.height + 2 * kMargin);
  draw_heat_map(svg, {kMargin, kMargin}, profile, map, setting);
  return svg.document();
}

std::vector<std::string> sensitivity_panels(const Profile& profile) {
  const Panels panels = panels_of(profile);
  std::vector<std::string> figures;
  for (size_t i = 0; i < panels.cells(); ++i) {
    Svg svg(kCellWidth + 2 * kMargin, panels.cell_height() + 2 * kMargin);
    draw_cell(svg, {kMargin, kMargin}, profile, panels, i);
    figures.push_back(svg.document());
  }
  return figures;
}

CellTable sensitivity_table(const Profile& profile) {
  CellTable table{{{"layer"}, {"shape"}}, {}};
  for (size_t i = 0; i < profile.settings.size(); ++i)
    table.header.push_back({setting_text(profile, i)});
  for (const LayerProfile& layer : profile.layers) {
    const plan::Layer& l = layer.network.layer;
    std::vector<Cell> row = {{l.name}, {fmt::format("{} x {}", l.rows, l.cols)}};
    for (const profile::Point& point : layer.points) {
      row.push_back({std::isfinite(point.value) ? fmt::format("{:.4g}", point.value) : "broken"});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string sensitivity_page(const Profile& profile, const std::string& model) {
  Page page(fmt::format("Sensitivity of the layers of {}", model));
  page.paragraph(fmt::format(
      "Each layer alone is replaced by a tensor network; the rest of the model stays as it was. "
      "Metric: {}; of the original it is {:.6g}. Method: {}.",
      metric_label(profile), profile.dense,
      profile.layers.empty() ? "" : profile.layers.front().network.method));
  page.figures(sensitivity_panels(profile));
  page.heading("Blocks and kinds of layers");
  std::vector<std::string> maps;
  for (size_t i = 0; i < profile.settings.size(); ++i) maps.push_back(heat_map_svg(profile, i));
  page.figures(maps);

  page.heading("The numbers");
  page.table(sensitivity_table(profile));
  return page.document();
}

}  // namespace schmidt::report
