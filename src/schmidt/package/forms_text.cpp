#include "schmidt/package/forms_text.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace schmidt::package {
namespace {

constexpr double kLeastPercent = 0.05;

// A (m, 1) x (1, n) network is a product of two matrices.
bool is_low_rank(const model::NetworkShape& network) {
  return network.out_dims.size() == 2 && network.out_dims[1] == 1 && network.in_dims[0] == 1;
}

// "int4, groups of 64" is "int4", "rank 32 in int8" is "rank in int8".
std::string without_sizes(std::string term) {
  term.resize(std::min(term.find(','), term.size()));
  constexpr std::string_view kRank = "rank ";
  if (term.starts_with(kRank)) {
    const size_t end = term.find_first_not_of("0123456789", kRank.size());
    if (end != std::string::npos) term.erase(kRank.size() - 1, end - kRank.size() + 1);
  }
  return term;
}

std::vector<std::string> terms_of(const std::string& label) {
  constexpr std::string_view kPlus = " + ";
  std::vector<std::string> terms;
  for (size_t begin = 0; begin < label.size();) {
    const size_t end = std::min(label.find(kPlus, begin), label.size());
    terms.push_back(without_sizes(label.substr(begin, end - begin)));
    begin = end + kPlus.size();
  }
  return terms;
}

}  // namespace

std::string form_text(const ModuleSummary& module) {
  if (!module.compressed) return module.stored_as;
  std::vector<std::string> terms = terms_of(module.label);
  const bool in_floats = terms.empty();  // else the label says in what
  for (const model::NetworkShape& network : module.networks) {
    terms.emplace_back(is_low_rank(network) ? "rank" : "MPO");
  }
  if (terms.empty()) terms.push_back(module.kind);
  std::string text = fmt::format("{}", fmt::join(terms, " + "));
  if (in_floats) text += " in " + module.stored_as;
  return text;
}

std::string forms_text(const ModelSummary& summary) {
  std::map<std::string, int64_t> parameters;
  for (const ModuleSummary& module : summary.modules) {
    parameters[form_text(module)] += module.dense_parameters;
  }
  std::vector<std::pair<std::string, int64_t>> forms(parameters.begin(), parameters.end());
  std::ranges::stable_sort(forms, std::greater<>(), &std::pair<std::string, int64_t>::second);
  std::string text;
  for (const auto& [form, count] : forms) {
    const double percent =
        100.0 * static_cast<double>(count) / static_cast<double>(summary.dense_parameters);
    if (percent < kLeastPercent) continue;
    text += fmt::format("{}{} {:.1f} %", text.empty() ? "" : ", ", form, percent);
  }
  return text;
}

}  // namespace schmidt::package
