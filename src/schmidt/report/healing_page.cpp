#include "schmidt/report/healing_page.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "schmidt/io/json.h"
#include "schmidt/report/page.h"
#include "schmidt/report/plot.h"

namespace schmidt::report {
namespace {

using nlohmann::json;

constexpr Box kPanel = {0, 0, 420, 290};
constexpr size_t kMostPoints = 1500;  // of a curve: more than pixels across

/// The log sorted out.
struct Run {
  json options = json::object();
  std::vector<json> blocks;
  std::map<int64_t, json> steps, evaluations;
  json before, after;  // null where the run has not ended
};

double number(const json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>()
                                                   : std::numeric_limits<double>::quiet_NaN();
}

Run sorted_out(const std::vector<json>& log) {
  Run run;
  for (const json& line : log) {
    if (!line.is_object()) continue;
    if (line.contains("run") && line["run"].is_object()) run.options = line["run"];
    if (line.contains("block")) run.blocks.push_back(line);
    if (line.contains("before") && line.contains("after")) {
      run.before = line["before"];
      run.after = line["after"];
    }
    const auto step = line.find("step");
    if (step == line.end() || !step->is_number_integer()) continue;
    (line.contains("held_out_loss") ? run.evaluations : run.steps)[step->get<int64_t>()] = line;
  }
  return run;
}

std::string figure(double value) {
  return std::isfinite(value) ? fmt::format("{:.5g}", value) : "";
}

std::string spaced(std::string text) {
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

/// Every number of an object, those of objects inside under "outer: inner".
std::map<std::string, double> flat(const json& object, const std::string& prefix = "") {
  std::map<std::string, double> all;
  if (!object.is_object()) return all;
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix + spaced(key);
    if (value.is_number()) all[name] = value.get<double>();
    all.merge(flat(value, name + ": "));
  }
  return all;
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string bytes_text(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} bytes", bytes);
  if (bytes < 1e6) return fmt::format("{:.4g} kB", bytes / 1e3);
  return bytes < 1e9 ? fmt::format("{:.4g} MB", bytes / 1e6)
                     : fmt::format("{:.4g} GB", bytes / 1e9);
}

// Curves ---------------------------------------------------------------------

using Points = std::vector<CurvePoint>;

Points values(const std::map<int64_t, json>& lines, const char* key) {
  Points points;
  for (const auto& [step, line] : lines) {
    const double value = number(line, key);
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

void add_trained(std::vector<Curve>& curves, const Run& run, const char* key,
                 const std::string& name, Colour pale, Colour colour) {
  const Points points = values(run.steps, key);
  curves.push_back({.name = "", .colour = pale, .points = thinned(points), .width = 1.0});
  curves.push_back(
      {.name = name, .colour = colour, .points = thinned(smoothed(points)), .width = 2.0});
}

void add_dots(std::vector<Curve>& curves, const Run& run, const char* key, const std::string& name,
              Colour colour) {
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

std::vector<std::string> curve_figures(const Run& run) {
  std::vector<std::string> figures;
  std::vector<Curve> loss;
  add_trained(loss, run, "loss", "training, smoothed", kPaleBlue, kBlue);
  loss[0].name = "training";
  add_dots(loss, run, "held_out_loss", "held out", kRed);
  figures.push_back(panel({"Loss", "step", "loss"}, loss));

  std::vector<Curve> entropy;
  add_trained(entropy, run, "cross_entropy", "training", kPaleBlue, kBlue);
  add_dots(entropy, run, "held_out_cross_entropy", "held out", kRed);
  figures.push_back(panel({"Cross entropy to the text", "step", "nats a token"}, entropy));

  std::vector<Curve> kl;
  add_trained(kl, run, "kl", "training", kPaleGreen, kGreen);
  add_dots(kl, run, "held_out_kl", "held out", kRed);
  figures.push_back(panel({.title = "KL divergence from the original",
                           .x = "step",
                           .y = "nats a token",
                           .original = 0.0},
                          kl));

  const std::vector<std::pair<const char*, PlotLabels>> others = {
      {"learning_rate", {.title = "Learning rate", .x = "step", .linear = true}},
      {"gradient_norm", {"Gradient norm before clipping", "step", ""}},
      {"tokens_per_second", {"Speed", "step", "tokens a second"}},
      {"memory", {"Memory", "step", "GB"}}};
  for (const auto& [key, labels] : others) {
    Points points = values(run.steps, key);
    if (key == std::string_view("memory")) {
      for (CurvePoint& point : points) point.y /= 1e9;
    }
    figures.push_back(panel(labels, {{.colour = kBlue, .points = thinned(points), .width = 1.3}}));
  }
  return figures;
}

std::string block_figure(const Run& run) {
  const auto points = [&](const char* key) {
    Points all;
    for (const json& line : run.blocks) {
      all.push_back({number(line, "block"), number(line, key),
                     fmt::format("block {}, {}: {}", figure(number(line, "block")), spaced(key),
                                 figure(number(line, key)))});
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

// Tables ---------------------------------------------------------------------

void add_comparison(Page& page, const Run& run) {
  const bool has_ended = run.before.is_object();
  if (!has_ended && run.evaluations.empty()) return;
  const json& first = has_ended ? run.before : run.evaluations.begin()->second;
  const json& last = has_ended ? run.after : run.evaluations.rbegin()->second;
  page.heading("Before and after");
  if (!has_ended) {
    page.paragraph(fmt::format(
        "The log holds no end of the run: step {} is compared with step {}, the last evaluated.",
        run.evaluations.begin()->first, run.evaluations.rbegin()->first));
  }
  const std::map<std::string, double> before = flat(first), after = flat(last);
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const std::string& name, double from, double to) {
    const std::string change = from != 0.0 && std::isfinite(from) && std::isfinite(to)
                                   ? fmt::format("{:+.1f} %", 100.0 * (to - from) / std::abs(from))
                                   : "";
    rows.push_back({name, figure(from), figure(to), change});
  };
  std::map<std::string, double> names = before;
  names.insert(after.begin(), after.end());
  const double none = std::numeric_limits<double>::quiet_NaN();
  const auto value_in = [&](const std::map<std::string, double>& figures, const std::string& name) {
    const auto found = figures.find(name);
    return found == figures.end() ? none : found->second;
  };
  for (const auto& [name, value] : names) {
    if (name == "step") continue;
    const double from = value_in(before, name), to = value_in(after, name);
    add(name, from, to);
    constexpr std::string_view kEntropy = "cross entropy";
    if (!name.ends_with(kEntropy)) continue;
    add(name.substr(0, name.size() - kEntropy.size()) + "perplexity", std::exp(from), std::exp(to));
  }
  page.table({"", "before", "after", "change"}, rows);
}

void add_summary(Page& page, const Run& run) {
  if (run.steps.empty()) {
    page.paragraph("The log holds no steps.");
    return;
  }
  const json& last = run.steps.rbegin()->second;
  std::string skipped;
  double memory = 0.0, exchanged = 0.0;
  for (const auto& [step, line] : run.steps) {
    if (line.value("skipped", json(false)) == true) {
      skipped += fmt::format("{}{}", skipped.empty() ? "" : ", ", step);
    }
    memory = std::fmax(memory, number(line, "memory"));
    exchanged = std::fmax(exchanged, number(line, "bytes_exchanged"));
  }
  std::vector<std::vector<std::string>> rows = {
      {"steps", std::to_string(run.steps.rbegin()->first)}};
  const auto add = [&](const char* name, double value, const std::string& text) {
    if (std::isfinite(value)) rows.push_back({name, text});
  };
  const double tokens = number(last, "tokens"), seconds = number(last, "seconds");
  add("tokens", tokens, fmt::format("{:.0f}", tokens));
  add("time", seconds, duration(seconds));
  add("tokens per second in all", tokens / seconds, figure(tokens / seconds));
  add("last loss", number(last, "loss"), figure(number(last, "loss")));
  add("most memory", memory, bytes_text(memory));
  add("bytes exchanged in a step", exchanged, bytes_text(exchanged));
  rows.push_back({"skipped steps", skipped.empty() ? "none" : skipped});
  page.table({"the run", ""}, rows);
}

void add_evaluations(Page& page, const Run& run) {
  if (run.evaluations.empty()) return;
  int64_t best = run.evaluations.begin()->first;
  for (const auto& [step, line] : run.evaluations) {
    if (number(line, "held_out_loss") < number(run.evaluations.at(best), "held_out_loss")) {
      best = step;
    }
  }
  page.heading("Evaluations on held-out text");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [step, line] : run.evaluations) {
    const double entropy = number(line, "held_out_cross_entropy");
    rows.push_back({std::to_string(step), figure(number(line, "held_out_loss")), figure(entropy),
                    figure(std::exp(entropy)), figure(number(line, "held_out_kl")),
                    step == best ? "best" : ""});
  }
  page.table({"step", "loss", "cross entropy", "perplexity", "KL", ""}, rows);
}

void add_blocks(Page& page, const Run& run) {
  if (run.blocks.empty()) return;
  page.heading("Block by block");
  page.figures({block_figure(run)});
  std::vector<std::vector<std::string>> rows;
  for (const json& line : run.blocks) {
    rows.push_back({figure(number(line, "block")), figure(number(line, "error_before")),
                    figure(number(line, "error_after"))});
  }
  page.table({"block", "error before", "error after"}, rows);
}

void add_options(Page& page, const Run& run) {
  if (run.options.empty()) return;
  page.heading("Options of the run");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : run.options.items()) {
    rows.push_back(
        {spaced(key), value.is_string() ? value.get<std::string>() : io::json_text(value)});
  }
  page.table({"option", "value"}, rows);
}

}  // namespace

std::string healing_page(const std::vector<json>& log, std::string_view title) {
  const Run run = sorted_out(log);
  Page page(title);
  add_summary(page, run);
  add_comparison(page, run);
  page.heading("Curves");
  page.figures(curve_figures(run));
  add_evaluations(page, run);
  add_blocks(page, run);
  add_options(page, run);
  return page.document();
}

}  // namespace schmidt::report
