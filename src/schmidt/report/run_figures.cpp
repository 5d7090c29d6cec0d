#include "schmidt/report/run_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/report/bar_figure.h"
#include "schmidt/report/decomposition_figure.h"
#include "schmidt/report/healing_curves.h"
#include "schmidt/report/number_text.h"
#include "schmidt/report/quality_figure.h"
#include "schmidt/report/run_tables.h"

namespace schmidt::report {
namespace {

constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

bool decodes(const SpeedFacts& speed) { return speed.test.starts_with("tg"); }

/// The model's original in the same measurement, or else the measurement's first model.
const SpeedFacts& compared_with(const RunFacts& facts, const SpeedFacts& speed) {
  const SpeedFacts* first = nullptr;
  for (const SpeedFacts& other : facts.speeds) {
    if (other.stage != speed.stage || other.test != speed.test) continue;
    if (facts.models[speed.model].original == other.model) return other;
    if (first == nullptr) first = &other;
  }
  return *first;
}

/// Of a token, in that of the model which it is compared with.
double relative_time(const RunFacts& facts, const SpeedFacts& speed) {
  return compared_with(facts, speed).ratio / speed.ratio;
}

bool same_measurement(const SpeedFacts& a, const SpeedFacts& b) {
  return a.stage == b.stage && a.test == b.test;
}

/// The measurement of decoding that has the most models: another's batch or hour may be another.
const SpeedFacts* widest_decoding(const RunFacts& facts) {
  const SpeedFacts* widest = nullptr;
  std::ptrdiff_t most = 0;
  for (const SpeedFacts& speed : facts.speeds) {
    if (!decodes(speed)) continue;
    const auto models = std::ranges::count_if(
        facts.speeds, [&](const SpeedFacts& other) { return same_measurement(other, speed); });
    if (models <= most) continue;
    most = models;
    widest = &speed;
  }
  return widest;
}

double milliseconds(const RunFacts& facts, const SpeedFacts* measurement, size_t model) {
  for (const SpeedFacts& speed : facts.speeds) {
    if (measurement != nullptr && speed.model == model && same_measurement(speed, *measurement)) {
      return 1e3 / speed.tokens_per_second;
    }
  }
  return kNoValue;
}

std::string at_once(int64_t batch) {
  return batch > 1 ? fmt::format(", {} sequences at once", batch) : "";
}

std::string names_of(const std::vector<MeasuredPoint>& points, const std::vector<size_t>& places) {
  std::vector<std::string> names;
  for (const size_t i : places) names.push_back(points[i].name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// What the frontier is, and who is off it.
std::string frontier_text(const std::vector<MeasuredPoint>& points, const char* cost) {
  const std::vector<size_t> frontier = frontier_of(points);
  std::vector<size_t> beaten;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool known = std::isfinite(points[i].cost) && std::isfinite(points[i].loss);
    if (known && std::ranges::find(frontier, i) == frontier.end()) beaten.push_back(i);
  }
  std::string text = fmt::format("The best for its {}: {}.", cost, names_of(points, frontier));
  if (!beaten.empty()) {
    text += fmt::format(" Another is better in both than {}.", names_of(points, beaten));
  }
  return text;
}

struct QualityPoints {
  std::vector<MeasuredPoint> points;
  std::vector<std::string> sources;
  std::vector<size_t> models;
};

std::optional<Figure> quality_figure(const RunFacts& facts, const QualityPoints& measured,
                                     const QualityLabels& labels, const char* cost,
                                     std::string_view folder) {
  const size_t shown =
      static_cast<size_t>(std::ranges::count_if(measured.points, [](const auto& p) {
        return std::isfinite(p.cost) && std::isfinite(p.loss);
      }));
  if (shown < 2) return std::nullopt;
  Figure figure{.svg = quality_svg(labels, measured.points),
                .finding = frontier_text(measured.points, cost)};
  figure.values.header = {{"model"}, {labels.cost}, {labels.loss}};
  for (size_t i = 0; i < measured.points.size(); ++i) {
    const MeasuredPoint& point = measured.points[i];
    figure.values.rows.push_back(
        {model_cell(facts, measured.models[i], folder, measured.sources[i]),
         {report::figure(point.cost)},
         {report::figure(point.loss)}});
  }
  return figure;
}

Figure size_figure(const RunFacts& facts, std::string_view folder) {
  BarFigure bars{.title = "Sizes of the models", .series = {{"", kBlue}}};
  Figure figure;
  figure.values.header = {{"model"}, {"bytes"}};
  const ModelFacts* smallest = nullptr;
  for (const ModelFacts& model : facts.models) {
    const auto bytes = static_cast<double>(model.bytes);
    bars.rows.push_back({model.name, {bytes}, {bytes_text(bytes)}});
    figure.values.rows.push_back({{model.name, link_to(folder, model.source)},
                                  {grouped(static_cast<int64_t>(model.bytes))}});
    if (smallest == nullptr || model.bytes < smallest->bytes) smallest = &model;
  }
  if (facts.original && smallest->original == facts.original &&
      facts.models[*facts.original].bytes > 0) {
    const ModelFacts& original = facts.models[*facts.original];
    bars.mark = static_cast<double>(original.bytes);
    figure.finding =
        smallest == &original
            ? "Nothing is smaller than the original as it is stored (dashed)."
            : fmt::format("{} is the smallest, with {} of the original's bytes (dashed).",
                          smallest->name,
                          percent(static_cast<double>(smallest->bytes) /
                                  static_cast<double>(original.bytes)));
  }
  figure.svg = bars_svg(bars);
  return figure;
}

/// Of one stage: prefill and decoding, as far as both were measured.
Figure time_figure(const RunFacts& facts, const std::string& stage, std::string_view folder) {
  std::vector<std::string> tests;
  std::vector<size_t> models;
  int64_t batch = 1;
  for (const SpeedFacts& speed : facts.speeds) {
    if (speed.stage != stage) continue;
    if (std::ranges::find(tests, speed.test) == tests.end()) tests.push_back(speed.test);
    if (std::ranges::find(models, speed.model) == models.end()) models.push_back(speed.model);
    batch = speed.batch;
  }
  BarFigure bars{.title = "Time of a token, relative to the original's", .mark = 1.0};
  const Colour colours[] = {kPaleBlue, kBlue};
  for (size_t i = 0; i < tests.size(); ++i) {
    const bool prefill = tests[i].starts_with("pp");
    bars.series.push_back({fmt::format("{} {} tokens{}", prefill ? "prefill of" : "decoding",
                                       tests[i].substr(2), at_once(batch)),
                           colours[tests.size() > 1 && prefill ? 0 : 1]});
  }
  Figure figure;
  figure.values.header = {{"model"}, {"test"}, {"tokens a second"}, {"±"}, {"time of a token"}};
  std::set<std::string> bases;
  const SpeedFacts* fastest = nullptr;
  for (const size_t model : models) {
    BarRow row{facts.models[model].name, std::vector<double>(tests.size(), kNoValue),
               std::vector<std::string>(tests.size())};
    for (const SpeedFacts& speed : facts.speeds) {
      if (speed.stage != stage || speed.model != model) continue;
      const auto test = static_cast<size_t>(std::ranges::find(tests, speed.test) - tests.begin());
      row.values[test] = relative_time(facts, speed);
      row.texts[test] = fmt::format("{:.2f}", row.values[test]);
      bases.insert(facts.models[compared_with(facts, speed).model].name);
      figure.values.rows.push_back({model_cell(facts, model, folder, speed.source),
                                    {speed.test},
                                    {fmt::format("{:.2f}", speed.tokens_per_second)},
                                    {report::figure(speed.deviation)},
                                    {fmt::format("{:.3f}", row.values[test])}});
      if (decodes(speed) && (fastest == nullptr || speed.ratio > fastest->ratio)) fastest = &speed;
    }
    bars.rows.push_back(std::move(row));
  }
  if (bases.size() == 1 && !bases.contains("original")) {
    bars.title = fmt::format("Time of a token, relative to that of {}", *bases.begin());
  }
  if (fastest != nullptr) {
    const std::string& name = facts.models[fastest->model].name;
    const std::string& base = facts.models[compared_with(facts, *fastest).model].name;
    figure.finding = name == base
                         ? fmt::format("Nothing decodes faster than {}.", base)
                         : fmt::format("{} decodes the fastest, in {:.0f} % of the time of {}.",
                                       name, 100.0 * relative_time(facts, *fastest), base);
  }
  figure.svg = bars_svg(bars);
  return figure;
}

double training_seconds(const HealingLog& log) {
  return log.steps.empty() ? kNoValue : number_of(log.steps.rbegin()->second, "seconds");
}

}  // namespace

std::vector<Figure> quality_figures(const RunFacts& facts, std::string_view folder) {
  std::vector<Figure> figures;
  const SpeedFacts* const decoding = widest_decoding(facts);
  const std::string time_label =
      "milliseconds a token in decoding" + at_once(decoding == nullptr ? 1 : decoding->batch);
  for (size_t text = 0; text < facts.texts.size(); ++text) {
    QualityPoints bytes, times;
    for (const TextScoreFacts& score : facts.text_scores) {
      if (score.text != text) continue;
      const ModelFacts& model = facts.models[score.model];
      MeasuredPoint point{model.name, static_cast<double>(model.bytes) / 1e6, score.perplexity,
                          model.original == score.model};
      if (model.bytes == 0) point.cost = kNoValue;
      bytes.points.push_back(point);
      point.cost = milliseconds(facts, decoding, score.model);
      times.points.push_back(point);
      for (QualityPoints* points : {&bytes, &times}) {
        points->sources.push_back(score.source);
        points->models.push_back(score.model);
      }
    }
    const std::string& name = facts.texts[text].text;
    const std::string perplexity = "perplexity on " + name;
    if (auto figure = quality_figure(
            facts, bytes, {"Quality against bytes, " + name, "MB", perplexity}, "size", folder)) {
      figures.push_back(std::move(*figure));
    }
    if (auto figure =
            quality_figure(facts, times, {"Quality against time, " + name, time_label, perplexity},
                           "speed", folder)) {
      figures.push_back(std::move(*figure));
    }
  }
  return figures;
}

std::vector<Figure> cost_figures(const RunFacts& facts, std::string_view folder) {
  std::vector<Figure> figures;
  if (facts.models.size() > 1) figures.push_back(size_figure(facts, folder));
  std::vector<std::string> stages;
  for (const SpeedFacts& speed : facts.speeds) {
    if (std::ranges::find(stages, speed.stage) == stages.end()) stages.push_back(speed.stage);
  }
  for (const std::string& stage : stages) figures.push_back(time_figure(facts, stage, folder));
  return figures;
}

std::vector<Figure> decomposition_figures(const RunFacts& facts) {
  if (!facts.largest_mlp_weight) return {};
  const WeightFacts& weight = *facts.largest_mlp_weight;
  const Decomposition decomposition = decompose(weight.rows, weight.cols);
  if (decomposition.shapes.empty()) return {};
  std::vector<std::string> last;
  Figure numbers;
  numbers.values.header = {{"bond dimension χ"}};
  for (const tn::SiteShape& shape : decomposition.shapes) {
    last.push_back(
        fmt::format("{} with {} sites", last_saving_bond(decomposition, shape), shape.sites()));
    numbers.values.header.push_back({fmt::format("{} sites", shape.sites())});
  }
  numbers.finding = fmt::format(
      "The network holds fewer numbers than the weight (dashed) up to a bond dimension of {}.",
      fmt::join(last, ", of "));
  for (const int64_t chi : {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}) {
    std::vector<Cell> row = {{grouped(chi)}};
    bool any = false;
    for (const tn::SiteShape& shape : decomposition.shapes) {
      const std::vector<int64_t> full = tn::full_bonds(shape);
      const bool reached = chi <= *std::ranges::max_element(full);
      any = any || reached;
      row.push_back({reached ? grouped(parameters_at(shape, chi)) : ""});
    }
    if (any) numbers.values.rows.push_back(std::move(row));
  }
  numbers.svg = parameters_svg(decomposition);
  Figure network{.svg = network_svg(decomposition)};
  network.finding = fmt::format(
      "The largest weight of a block, {} with {} rows and {} columns, as a chain of tensors that "
      "bonds of dimension χ join. Legs above are its columns, legs below its rows.",
      weight.name, grouped(weight.rows), grouped(weight.cols));
  return {network, numbers};
}

std::vector<Figure> healing_figures(const RunFacts& facts, std::string_view folder) {
  std::vector<Figure> figures;
  BarFigure bars{.title = "Time of healing", .series = {{"", kGreen}}};
  Figure times;
  times.values.header = {{"model"}, {"steps"}, {"tokens"}, {"seconds"}};
  for (const HealingFacts& healing : facts.healings) {
    const HealingLog log = sorted_out(healing.log);
    if (log.steps.empty()) continue;
    const std::string& name = facts.models[healing.model].name;
    const nlohmann::json& last = log.steps.rbegin()->second;
    const double seconds = training_seconds(log), tokens = number_of(last, "tokens");
    std::vector<std::vector<Cell>> row = {
        {model_cell(facts, healing.model, folder, healing.source),
         {grouped(log.steps.rbegin()->first)},
         {std::isfinite(tokens) ? fmt::format("{:.0f}", tokens) : ""},
         {fmt::format("{:.1f}", seconds)}}};
    times.values.rows.push_back(row.front());
    if (std::isfinite(seconds)) bars.rows.push_back({name, {seconds}, {duration(seconds)}});
    const double before = number_of(log.before, "kl"), after = number_of(log.after, "kl");
    Figure loss{.svg = loss_figure(log)};
    loss.finding = fmt::format("{} was trained on {} tokens in {}.", name,
                               std::isfinite(tokens) ? grouped(std::llround(tokens)) : "all",
                               std::isfinite(seconds) ? duration(seconds) : "an unknown time");
    loss.values = {times.values.header, row};
    figures.push_back(std::move(loss));
    Figure kl{.svg = kl_figure(log)};
    if (std::isfinite(before) && std::isfinite(after)) {
      kl.finding = fmt::format("On held-out text {} goes from {:.4f} to {:.4f} nats a token.", name,
                               before, after);
    }
    kl.values.header = {{"step"}, {"held-out loss"}, {"cross entropy"}, {"KL"}};
    for (const auto& [step, line] : log.evaluations) {
      kl.values.rows.push_back({{std::to_string(step)},
                                {figure(number_of(line, "held_out_loss"))},
                                {figure(number_of(line, "held_out_cross_entropy"))},
                                {figure(number_of(line, "held_out_kl"))}});
    }
    figures.push_back(std::move(kl));
  }
  if (bars.rows.size() > 1) {
    const auto [least, most] =
        std::ranges::minmax_element(bars.rows, {}, [](const BarRow& row) { return row.values[0]; });
    times.finding = fmt::format("{} took the shortest, {}; {} the longest, {}.", least->label,
                                least->texts[0], most->label, most->texts[0]);
    times.svg = bars_svg(bars);
    figures.insert(figures.begin(), std::move(times));
  }
  return figures;
}

}  // namespace schmidt::report
