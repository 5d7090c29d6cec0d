#include "schmidt/report/healing_page.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "schmidt/io/json.h"
#include "schmidt/report/healing_curves.h"
#include "schmidt/report/healing_log.h"
#include "schmidt/report/number_text.h"
#include "schmidt/report/page.h"

namespace schmidt::report {
namespace {

using nlohmann::json;

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

void add_comparison(Page& page, const HealingLog& run) {
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

void add_summary(Page& page, const HealingLog& run) {
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
    memory = std::fmax(memory, number_of(line, "memory"));
    exchanged = std::fmax(exchanged, number_of(line, "bytes_exchanged"));
  }
  std::vector<std::vector<std::string>> rows = {
      {"steps", std::to_string(run.steps.rbegin()->first)}};
  const auto add = [&](const char* name, double value, const std::string& text) {
    if (std::isfinite(value)) rows.push_back({name, text});
  };
  const double tokens = number_of(last, "tokens"), seconds = number_of(last, "seconds");
  add("tokens", tokens, fmt::format("{:.0f}", tokens));
  add("time", seconds, duration(seconds));
  add("tokens per second in all", tokens / seconds, figure(tokens / seconds));
  add("last loss", number_of(last, "loss"), figure(number_of(last, "loss")));
  add("most memory", memory, bytes_text(memory));
  add("bytes exchanged in a step", exchanged, bytes_text(exchanged));
  rows.push_back({"skipped steps", skipped.empty() ? "none" : skipped});
  page.table({"the run", ""}, rows);
}

void add_evaluations(Page& page, const HealingLog& run) {
  if (run.evaluations.empty()) return;
  int64_t best = run.evaluations.begin()->first;
  for (const auto& [step, line] : run.evaluations) {
    if (number_of(line, "held_out_loss") < number_of(run.evaluations.at(best), "held_out_loss")) {
      best = step;
    }
  }
  page.heading("Evaluations on held-out text");
  std::vector<std::vector<std::string>> rows;
  for (const auto& [step, line] : run.evaluations) {
    const double entropy = number_of(line, "held_out_cross_entropy");
    rows.push_back({std::to_string(step), figure(number_of(line, "held_out_loss")), figure(entropy),
                    figure(std::exp(entropy)), figure(number_of(line, "held_out_kl")),
                    step == best ? "best" : ""});
  }
  page.table({"step", "loss", "cross entropy", "perplexity", "KL", ""}, rows);
}

void add_blocks(Page& page, const HealingLog& run) {
  if (run.blocks.empty()) return;
  page.heading("Block by block");
  page.figures({block_figure(run)});
  std::vector<std::vector<std::string>> rows;
  for (const json& line : run.blocks) {
    rows.push_back({figure(number_of(line, "block")), figure(number_of(line, "error_before")),
                    figure(number_of(line, "error_after"))});
  }
  page.table({"block", "error before", "error after"}, rows);
}

void add_options(Page& page, const HealingLog& run) {
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
  const HealingLog run = sorted_out(log);
  Page page(title);
  add_summary(page, run);
  add_comparison(page, run);
  page.heading("Curves");
  std::vector<std::string> curves = {loss_figure(run), cross_entropy_figure(run), kl_figure(run)};
  std::ranges::move(step_figures(run), std::back_inserter(curves));
  page.figures(curves);
  add_evaluations(page, run);
  add_blocks(page, run);
  add_options(page, run);
  return page.document();
}

}  // namespace schmidt::report
