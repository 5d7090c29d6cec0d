#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json.h"
#include "schmidt/model/config.h"
#include "schmidt/model/network.h"
#include "schmidt/model/require_model.h"
#include "schmidt/package/summary.h"

namespace schmidt::cli {
namespace {

struct InspectOptions {
  CommonOptions common;
  std::string model;
};

nlohmann::ordered_json network_json(const model::NetworkShape& network) {
  nlohmann::ordered_json out = {
      {"out_dims", network.out_dims}, {"in_dims", network.in_dims}, {"bonds", network.bonds}};
  if (network.fixed_gauge) out["gauge"] = "fixed";
  return out;
}

nlohmann::ordered_json as_json(const io::Checkpoint& checkpoint,
                               const package::ModelSummary& summary) {
  nlohmann::ordered_json out;
  out["model"] = checkpoint.path().string();
  out["model_type"] = io::string_or(checkpoint.config(), "model_type", "", checkpoint.path());
  out.update(sizes_json(summary));
  for (const auto& m : summary.modules) {
    nlohmann::ordered_json module = {{"name", m.name},
                                     {"kind", m.kind},
                                     {"shape", m.shape},
                                     {"stored_as", m.stored_as},
                                     {"parameters", m.parameters},
                                     {"dense_parameters", m.dense_parameters},
                                     {"bytes", m.bytes}};
    // As in compression_config: a network by itself, or the terms of a sum.
    if (m.networks.size() == 1) module.update(network_json(m.networks.front()));
    if (!m.label.empty()) module["label"] = m.label;
    if (m.networks.size() > 1) {
      for (const auto& network : m.networks) module["terms"].push_back(network_json(network));
    }
    out["modules"].push_back(std::move(module));
  }
  return out;
}

std::string kind_text(const package::ModuleSummary& module) {
  const bool fixed = std::ranges::any_of(module.networks, &model::NetworkShape::fixed_gauge);
  return module.kind + (fixed ? ", fixed gauge" : "") +
         (module.label.empty() ? "" : ", " + module.label);
}

std::string mlp_text(const model::ModelConfig& config) {
  if (!config.experts) {
    const auto [least, most] = std::ranges::minmax(config.mlp_sizes);
    const std::string all = fmt::format("MLP {}", config.intermediate_size);
    if (least == config.intermediate_size) return all;
    return fmt::format(
        "{}, pruned to {}", all,
        least == most ? std::to_string(least) : fmt::format("{} to {}", least, most));
  }
  const model::ExpertsConfig& e = *config.experts;
  return fmt::format("{} experts of {}, {} for each token{}", e.count, e.intermediate_size,
                     e.active,
                     e.shared_size > 0 ? fmt::format(", one of {} for all", e.shared_size) : "");
}

void print(const io::Checkpoint& checkpoint, const package::ModelSummary& summary) {
  const nlohmann::json& config = checkpoint.config();
  const std::filesystem::path& path = checkpoint.path();
  const auto number = [&](const char* key) { return io::integer_or(config, key, 0, path); };
  fmt::print("model            {}\n", checkpoint.path().string());
  fmt::print(
      "architecture     {}, {} blocks, hidden {}, {} heads ({} key-value), {}, vocabulary "
      "{}{}\n",
      io::string_or(config, "model_type", "?", path), number("num_hidden_layers"),
      number("hidden_size"), number("num_attention_heads"),
      io::integer_or(config, "num_key_value_heads", number("num_attention_heads"), path),
      mlp_text(model::parse_config(config, path)), number("vocab_size"),
      io::boolean_or(config, "tie_word_embeddings", false, path) ? ", tied embedding" : "");
  fmt::print("{}\n", sizes_text(summary));

  Table table;
  table.header = {"layer",  "kind",       "shape",  "sites (out; in)", "bonds",
                  "stored", "parameters", "kept %", "share %"};
  for (const auto& m : summary.modules) {
    table.rows.push_back(
        {m.name, kind_text(m), fmt::format("{}", fmt::join(m.shape, " x ")),
         model::sites_text(m.networks), model::bonds_text(m.networks), m.stored_as,
         std::to_string(m.parameters),
         fmt::format("{:.1f}", 100.0 * static_cast<double>(m.parameters) /
                                   static_cast<double>(std::max<int64_t>(m.dense_parameters, 1))),
         fmt::format("{:.2f}", 100.0 * static_cast<double>(m.parameters) /
                                   static_cast<double>(std::max<int64_t>(summary.parameters, 1)))});
  }
  fmt::print("{}", table.aligned());
}

}  // namespace

Action add_inspect(CLI::App& verb) {
  auto options = std::make_shared<InspectOptions>();
  add_model_argument(verb, options->model);
  add_common_options(verb, options->common);
  const auto opened = [options](const NoteFn& note) {
    io::Checkpoint checkpoint = open_checkpoint(options->model, note);
    model::require_model(checkpoint);  // what no other verb can open is no model
    return checkpoint;
  };
  return {{},
          [options, opened] {
            const io::Checkpoint checkpoint = opened(printed_notes(options->common));
            const package::ModelSummary summary = package::summarize(checkpoint);
            if (options->common.json) {
              fmt::print("{}\n", io::json_text(as_json(checkpoint, summary)));
            } else {
              print(checkpoint, summary);
            }
          },
          [opened](const Caller& caller) {
            const io::Checkpoint checkpoint = opened(caller.reporter.note);
            return as_json(checkpoint, package::summarize(checkpoint));
          }};
}

}  // namespace schmidt::cli
