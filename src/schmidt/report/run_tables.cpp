#include "schmidt/report/run_tables.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/report/number_text.h"

namespace schmidt::report {
namespace {

constexpr std::string_view kOfTheOriginal = "of the original";

std::string fixed(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "not finite";
}

Cell prose(std::string text, std::string link = "") {
  return {std::move(text), std::move(link), true};
}

std::string share_of(double part, double whole) { return whole > 0.0 ? percent(part / whole) : ""; }

// Quality --------------------------------------------------------------------

CellTable text_table(const RunFacts& facts, size_t text, std::string_view folder) {
  std::vector<const TextScoreFacts*> scores;
  for (const TextScoreFacts& score : facts.text_scores) {
    if (score.text == text) scores.push_back(&score);
  }
  std::ranges::stable_sort(scores, {}, [](const TextScoreFacts* score) { return score->model; });
  const bool compares =
      std::ranges::any_of(scores, [](const auto* s) { return s->kl.has_value(); });
  CellTable table;
  table.header = {{"model"}, {"perplexity"}, {"nats a token"}, {"±"}};
  if (compares) {
    for (const char* name :
         {"KL mean", "median", "90 %", "99 %", "99.9 %", "largest", "same top-1"}) {
      table.header.push_back({name});
    }
  }
  for (const TextScoreFacts* score : scores) {
    std::vector<Cell>& row = table.rows.emplace_back();
    row = {model_cell(facts, score->model, folder, score->source),
           {fixed(score->perplexity, 3)},
           {fixed(score->nll, 4)},
           {fixed(score->nll_stderr, 4)}};
    if (!compares) continue;
    if (!score->kl) {
      row.resize(table.header.size());
      continue;
    }
    const DivergenceFacts& kl = *score->kl;
    for (const double value : {kl.mean, kl.median, kl.p90, kl.p99, kl.p999, kl.max}) {
      row.push_back({fixed(value, 4)});
    }
    row.push_back({percent(kl.top1_agreement)});
  }
  return table;
}

std::string task_cell(const TaskScoreFacts& score) {
  // Perplexities are no shares.
  const bool share = score.higher_is_better && score.value <= 1.0;
  const double unit = share ? 100.0 : 1.0;
  std::string text = fixed(unit * score.value, 2);
  if (score.standard_error) text += fmt::format(" ± {}", fixed(unit * *score.standard_error, 2));
  if (score.recovery) text += fmt::format(" ({:.1f} %)", *score.recovery);
  return text;
}

void add_tasks(Page& page, const RunFacts& facts, std::string_view folder) {
  if (facts.task_scores.empty()) return;
  page.subheading("Benchmarks");
  /// Scores that may be compared.
  struct Column {
    std::string task, metric;
    int64_t questions, fewshot;
    bool operator==(const Column&) const = default;
  };
  std::vector<Column> columns;  // as they come
  std::set<size_t> models;
  std::set<std::string> asked;
  for (const TaskScoreFacts& score : facts.task_scores) {
    const Column column{score.task, score.metric, score.questions, score.fewshot};
    if (std::ranges::find(columns, column) == columns.end()) columns.push_back(column);
    models.insert(score.model);
    asked.insert(fmt::format("{} of {} with {} examples", grouped(score.questions), score.task,
                             score.fewshot));
  }
  page.paragraph(fmt::format(
      "Worded and scored as lm-evaluation-harness does: per cent with the standard error, and in "
      "brackets what is left of the original's score. Questions: {}.",
      fmt::join(asked, ", ")));
  CellTable table;
  table.header = {{"model"}};
  for (const Column& column : columns) {
    std::string head = column.task + ", " + column.metric;
    const auto alike = std::ranges::count_if(columns, [&](const Column& other) {
      return other.task == column.task && other.metric == column.metric;
    });
    if (alike > 1) {
      head += fmt::format(", {} questions, {} examples", grouped(column.questions), column.fewshot);
    }
    table.header.push_back({std::move(head)});
  }
  for (const size_t model : models) {
    std::vector<Cell>& row = table.rows.emplace_back();
    row.push_back({facts.models[model].name});
    for (const Column& column : columns) {
      row.emplace_back();
      for (const TaskScoreFacts& score : facts.task_scores) {
        if (score.model == model &&
            column == Column{score.task, score.metric, score.questions, score.fewshot}) {
          row.back() = {task_cell(score), link_to(folder, score.source)};
        }
      }
    }
  }
  page.table(table);
}

// Method ---------------------------------------------------------------------

std::string quoted(const std::string& word) {
  const bool plain = !word.empty() && std::ranges::all_of(word, [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("-_./=:,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string command_text(const std::vector<std::string>& command) {
  std::string text = "schmidt";
  for (const std::string& word : command) text += " " + quoted(word);
  return text;
}

std::string machine_text(const MachineFacts& machine) {
  return fmt::format("{}, {:g} threads, {} of memory{}{}",
                     machine.processor.empty() ? "a processor without a name" : machine.processor,
                     machine.threads, bytes_text(static_cast<double>(machine.memory)),
                     machine.instruction_sets.empty() ? "" : ", kernels for ",
                     fmt::join(machine.instruction_sets, ", "));
}

std::string seed_of(const StageFacts& stage) {
  if (stage.command.empty()) return "";
  for (const std::string& word : stage.command) {
    if (word.starts_with("--seed=")) return word.substr(7);
  }
  return "0";
}

const char* state_text(StageState state) {
  switch (state) {
    case StageState::kFinished:
      return "";
    case StageState::kBegun:
      return "begun, not finished";
    case StageState::kNotBegun:
      return "not begun";
    case StageState::kGone:
      return "its result is gone";
  }
  return "";
}

}  // namespace

std::string link_to(std::string_view folder, std::string_view source) {
  if (source.empty()) return "";
  std::string link;
  for (const char c : fmt::format("{}{}", folder, source)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 0x80 && std::isalnum(byte) != 0) ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    link += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return link;
}

Cell model_cell(const RunFacts& facts, size_t model, std::string_view folder,
                const std::string& source) {
  return {facts.models[model].name, link_to(folder, source)};
}

void add_sizes(Page& page, const RunFacts& facts, std::string_view folder) {
  if (facts.models.empty()) return;
  page.heading("Table I. What the models take");
  const bool compares = facts.original.has_value();
  CellTable table;
  table.header = {{"model"}, prose("made by"), {"MB"}, {"bytes"}};
  if (compares) table.header.push_back({fmt::format("bytes {}", kOfTheOriginal)});
  table.header.push_back({"parameters"});
  if (compares) table.header.push_back({fmt::format("parameters {}", kOfTheOriginal)});
  table.header.push_back({"bits a parameter of the original"});
  for (const ModelFacts& model : facts.models) {
    const auto bytes = static_cast<double>(model.bytes);
    const ModelFacts original = model.original ? facts.models[*model.original] : ModelFacts();
    std::vector<Cell>& row = table.rows.emplace_back();
    row = {{model.name, link_to(folder, model.source)},
           prose(model.origin),
           {fmt::format("{:.1f}", bytes / 1e6)},
           {grouped(static_cast<int64_t>(model.bytes))}};
    if (compares) row.push_back({share_of(bytes, static_cast<double>(original.bytes))});
    row.push_back({grouped(model.parameters)});
    if (compares) {
      row.push_back({share_of(static_cast<double>(model.parameters),
                              static_cast<double>(original.parameters))});
    }
    row.push_back(
        {model.original_parameters > 0
             ? fmt::format("{:.2f}", 8.0 * bytes / static_cast<double>(model.original_parameters))
             : ""});
  }
  page.table(table);
  page.paragraph(
      "Bytes are those of the weights' files, 1 MB is 1,000,000 of them. Parameters are the "
      "numbers "
      "that are stored, in however many bits; a tied embedding counts once.");
}

void add_quality(Page& page, const RunFacts& facts, std::string_view folder) {
  if (facts.text_scores.empty() && facts.task_scores.empty()) return;
  page.heading("Table II. What the models say");
  if (!facts.text_scores.empty()) {
    page.paragraph(
        "Perplexity is measured over windows without overlap; ± is the standard error of the loss, "
        "over tokens. KL is the divergence of the original's next-token distribution to the "
        "model's in nats: its mean, its percentiles over positions, and its largest value. The "
        "last column says how often both find the same token the likeliest.");
  }
  for (size_t i = 0; i < facts.texts.size(); ++i) {
    const TextFacts& text = facts.texts[i];
    page.subheading(fmt::format("{}: {} tokens in windows of {}", text.text, grouped(text.tokens),
                                grouped(text.context)));
    page.table(text_table(facts, i, folder));
  }
  add_tasks(page, facts, folder);
}

std::string unfinished_text(const RunFacts& facts) {
  std::vector<std::string> parts;
  for (const StageFacts& stage : facts.stages) {
    if (stage.state == StageState::kFinished) continue;
    parts.push_back(fmt::format("{} ({}, {})", stage.name, stage.verb, state_text(stage.state)));
  }
  if (parts.empty()) return "";
  return fmt::format("Not all of the run is here: {}.", fmt::join(parts, "; "));
}

void add_method(Page& page, const RunFacts& facts, std::string_view folder) {
  page.heading("How it was made");
  for (const MachineFacts& machine : facts.machines) {
    page.paragraph(fmt::format("{}{}.", facts.machines.size() > 1 ? "One of the machines: " : "On ",
                               machine_text(machine)));
  }
  CellTable table;
  table.header = {{"stage"}, prose("verb"),          {"time"},
                  {"seed"},  prose("ended, in UTC"), prose("by")};
  std::vector<std::string> commands;
  for (const StageFacts& stage : facts.stages) {
    const std::string state = state_text(stage.state);
    table.rows.push_back({{stage.name, link_to(folder, stage.source)},
                          prose(stage.verb),
                          {stage.seconds > 0.0 ? duration(stage.seconds) : ""},
                          {seed_of(stage)},
                          prose(state.empty() ? stage.ended : state),
                          prose(stage.program)});
    if (!stage.command.empty()) commands.push_back(command_text(stage.command));
  }
  page.table(table);
  if (commands.empty()) return;
  page.paragraph(
      std::vector<Cell>{{"The recipe's stages as commands, in the order of the recipe; "},
                        {"run.json", link_to(folder, "run.json")},
                        {" is the record of all of it."}});
  page.commands(commands);
}

}  // namespace schmidt::report
