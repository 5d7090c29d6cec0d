#include "schmidt/report/run_page.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "schmidt/report/number_text.h"
#include "schmidt/report/run_figures.h"
#include "schmidt/report/run_tables.h"
#include "schmidt/report/sensitivity_figure.h"

namespace schmidt::report {
namespace {

const TextScoreFacts* score_of(const RunFacts& facts, size_t model, size_t text) {
  for (const TextScoreFacts& score : facts.text_scores) {
    if (score.model == model && score.text == text) return &score;
  }
  return nullptr;
}

bool is_measured(const RunFacts& facts, size_t model) {
  const auto of_model = [&](const auto& score) { return score.model == model; };
  return std::ranges::any_of(facts.text_scores, of_model) ||
         std::ranges::any_of(facts.task_scores, of_model);
}

/// Of those that the run made and measured, or else of those that it made.
std::optional<size_t> smallest_model(const RunFacts& facts) {
  std::optional<size_t> smallest;
  bool is_best_measured = false;
  for (size_t i = 0; i < facts.models.size(); ++i) {
    if (facts.models[i].source.empty() || i == facts.models[i].original) continue;
    const bool measured = is_measured(facts, i);
    if (!smallest || measured > is_best_measured ||
        (measured == is_best_measured && facts.models[i].bytes < facts.models[*smallest].bytes)) {
      smallest = i;
      is_best_measured = measured;
    }
  }
  return smallest;
}

/// "the original's", or by its name where the run has several.
std::string of_original(const RunFacts& facts, size_t original) {
  return original == facts.original ? "the original's" : facts.models[original].name + "'s";
}

std::string perplexity_text(double perplexity) {
  return std::isfinite(perplexity) ? fmt::format("{:.3f}", perplexity) : "no finite number";
}

/// What is left of the original's quality, after "and".
std::vector<Cell> loss_of(const RunFacts& facts, size_t model, std::string_view folder) {
  for (size_t text = 0; text < facts.texts.size(); ++text) {
    const TextScoreFacts* const score = score_of(facts, model, text);
    const std::optional<size_t> from = facts.models[model].original;
    const TextScoreFacts* const original = from ? score_of(facts, *from, text) : nullptr;
    if (score == nullptr) continue;
    const Cell perplexity = {perplexity_text(score->perplexity), link_to(folder, score->source)};
    std::vector<Cell> cells = {{fmt::format("its perplexity on {} is ", facts.texts[text].text)},
                               perplexity};
    if (original == nullptr) {
      cells.push_back({"."});
      return cells;
    }
    const double loss = score->nll - original->nll;
    cells.push_back({fmt::format(" where {} is ", of_original(facts, *from))});
    cells.push_back({perplexity_text(original->perplexity), link_to(folder, original->source)});
    cells.push_back({std::isfinite(loss)
                         ? fmt::format(": {} {:.4f} nats a token.",
                                       loss >= 0 ? "a loss of" : "a gain of", std::abs(loss))
                         : "."});
    return cells;
  }
  for (const TaskScoreFacts& score : facts.task_scores) {
    if (score.model != model || !score.recovery) continue;
    return {{fmt::format("it keeps {:.1f} % of the original's score in {}", *score.recovery,
                         score.task),
             link_to(folder, score.source)},
            {"."}};
  }
  return {{"nothing in the run measures what it loses."}};
}

void add_figures(Page& page, const char* heading, const std::vector<Figure>& figures) {
  if (figures.empty()) return;
  page.heading(heading);
  page.figures(figures);
}

/// The layer that loses the most at the middle setting, and the one that loses the least.
std::string sensitivity_text(const profile::Profile& profile) {
  const size_t setting = profile.settings.size() / 2;
  const profile::LayerProfile *most = nullptr, *least = nullptr;
  const auto loss = [&](const profile::LayerProfile* layer) { return layer->points[setting].loss; };
  for (const profile::LayerProfile& layer : profile.layers) {
    if (layer.points.size() <= setting || !std::isfinite(loss(&layer))) continue;
    if (most == nullptr || loss(&layer) > loss(most)) most = &layer;
    if (least == nullptr || loss(&layer) < loss(least)) least = &layer;
  }
  std::string text = fmt::format(
      "Each layer alone is replaced by a tensor network, the rest of the model as it was; measured "
      "is {}.",
      metric_label(profile));
  if (most == nullptr || most == least) return text;
  return text +
         fmt::format(" At {} {} loses the most, {} the least.",
                     profile.setting == profile::Setting::kBonds
                         ? fmt::format("a bond dimension of {:g}", profile.settings[setting])
                         : fmt::format("{:g} % of its parameters", 100 * profile.settings[setting]),
                     most->network.layer.name, least->network.layer.name);
}

void add_sensitivities(Page& page, const RunFacts& facts, std::string_view folder) {
  for (const SensitivityFacts& sensitivity : facts.sensitivities) {
    page.heading("Which layers bear compression");
    page.paragraph(std::vector<Cell>{{sensitivity_text(sensitivity.profile) + " From "},
                                     {sensitivity.source, link_to(folder, sensitivity.source)},
                                     {"."}});
    page.figures(sensitivity_panels(sensitivity.profile));
    page.folded("The numbers", sensitivity_table(sensitivity.profile));
  }
}

void add_samples(Page& page, const RunFacts& facts, std::string_view folder) {
  if (facts.samples.empty()) return;
  page.heading("How they go on with a text");
  std::vector<std::string> prompts;
  for (const SampleFacts& sample : facts.samples) {
    if (std::ranges::find(prompts, sample.prompt) == prompts.end()) {
      prompts.push_back(sample.prompt);
    }
  }
  for (const std::string& prompt : prompts) {
    std::vector<Quotation> quotations;
    for (const SampleFacts& sample : facts.samples) {
      if (sample.prompt != prompt) continue;
      quotations.push_back(
          {{facts.models[sample.model].name, link_to(folder, sample.source)}, sample.text});
    }
    page.quotations(prompt, quotations);
  }
}

}  // namespace

std::vector<Cell> finding_of(const RunFacts& facts, std::string_view folder) {
  const std::optional<size_t> smallest = smallest_model(facts);
  if (!smallest) {
    return {{fmt::format("The run made no model; it read {}.",
                         facts.models.empty() ? "none" : facts.models.front().origin)}};
  }
  const ModelFacts& model = facts.models[*smallest];
  std::vector<Cell> cells = {
      {"The smallest model, "},
      {model.name, link_to(folder, model.source)},
      {fmt::format(", takes {}", bytes_text(static_cast<double>(model.bytes)))}};
  if (model.original && facts.models[*model.original].bytes > 0) {
    const auto bytes = static_cast<double>(facts.models[*model.original].bytes);
    cells.push_back({fmt::format(", {} of {} {}", percent(static_cast<double>(model.bytes) / bytes),
                                 of_original(facts, *model.original), bytes_text(bytes))});
  }
  cells.push_back({", and "});
  std::ranges::move(loss_of(facts, *smallest, folder), std::back_inserter(cells));
  return cells;
}

std::string run_page(const RunFacts& facts, std::string_view folder) {
  const bool has_original = facts.original.has_value();
  Page page(has_original
                ? fmt::format("{}, compressed and measured", facts.models[*facts.original].origin)
                : fmt::format("The run {}", facts.name));
  page.lead(finding_of(facts, folder));
  const std::string unfinished = unfinished_text(facts);
  if (!unfinished.empty()) page.paragraph(unfinished);
  add_figures(page, "What quality costs", quality_figures(facts, folder));
  add_sizes(page, facts, folder);
  if (const auto figures = cost_figures(facts, folder); !figures.empty()) page.figures(figures);
  add_quality(page, facts, folder);
  add_figures(page, "What a network of a weight is", decomposition_figures(facts));
  add_sensitivities(page, facts, folder);
  add_figures(page, "Healing", healing_figures(facts, folder));
  add_samples(page, facts, folder);
  add_method(page, facts, folder);
  return page.document();
}

}  // namespace schmidt::report
