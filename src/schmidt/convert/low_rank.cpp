#include "schmidt/convert/low_rank.h"

#include <utility>

#include <ATen/ops/cat.h>

#include "schmidt/model/factored_projection.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/network.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"

namespace schmidt::convert {
namespace {

bool is_network(const StoredGroup& term) {
  return term.form.value("kind", "") == model::kMpoKind.name;
}

/// The rank of a term that is one of low rank, 0 of others.
int64_t rank_of(const StoredGroup& term, const std::filesystem::path& path) {
  const io::JsonRecord form = record_of(term, path);
  if (term.form.value("kind", "") == model::kFactoredKind.name) {
    return form.record("right").sizes("shape").at(0);
  }
  if (!is_network(term)) return 0;
  const model::NetworkShape shape = model::network_shape(form);
  const std::vector<int64_t> out = {term.layer.out_features, 1}, in = {1, term.layer.in_features};
  return shape.out_dims == out && shape.in_dims == in ? shape.bonds.at(0) : 0;
}

/// The terms of a sum as layers of their own.
std::vector<StoredGroup> terms_of(const StoredGroup& group, const std::filesystem::path& path) {
  std::vector<StoredGroup> terms;
  const size_t count = record_of(group, path).records("terms").size();
  for (size_t i = 0; i < count; ++i) {
    StoredGroup term = group;
    term.layer.name = model::term_name(group.layer.name, i);
    term.form = group.form["terms"][i];
    if (!term.form.contains("kind")) term.form["kind"] = model::kMpoKind.name;
    terms.push_back(std::move(term));
  }
  return terms;
}

LowRankFactors load_term(const StoredGroup& term, const model::Weights& weights) {
  const io::JsonRecord form = record_of(term, weights.path());
  const int64_t m = term.layer.out_features, n = term.layer.in_features;
  if (is_network(term)) {
    const auto network =
        std::get<tn::Mpo>(model::load_network(form, term.layer.name, m, n, weights));
    return {network.cores()[0].reshape({m, -1}), network.cores()[1].reshape({-1, n})};
  }
  const int64_t rank = rank_of(term, weights.path());
  const auto factor = [&](const char* side, int64_t rows, int64_t columns) {
    const io::JsonRecord of_side = form.record(side);
    return model::load_quantized_matrix(of_side, term.layer.name + "." + side, rows, columns,
                                        weights)
        .decode(torch::kFloat32);
  };
  return {factor("left", m, rank), factor("right", rank, n)};
}

}  // namespace

std::vector<LowRankGroup> low_rank_groups(const model::ModelConfig& config,
                                          const std::filesystem::path& path) {
  std::vector<LowRankGroup> groups;
  for (StoredGroup& stored : stored_groups(config, path)) {
    if (stored.form.value("kind", "") != model::kSumKind.name ||
        !stored.layer.name.starts_with("model.layers.")) {
      continue;
    }
    LowRankGroup group;
    for (StoredGroup& term : terms_of(stored, path)) {
      const int64_t rank = rank_of(term, path);
      group.rank += rank;
      (rank > 0 ? group.low_ranks : group.base).push_back(std::move(term));
    }
    if (group.base.empty() || group.low_ranks.empty()) continue;
    group.group = std::move(stored);
    groups.push_back(std::move(group));
  }
  return groups;
}

LowRankFactors load_low_rank(const io::Checkpoint& checkpoint, const LowRankGroup& group) {
  const model::Weights weights(checkpoint, {.dtype = torch::kFloat32, .free_gauge = true});
  std::vector<torch::Tensor> b, a;
  for (const StoredGroup& term : group.low_ranks) {
    LowRankFactors factors = load_term(term, weights);
    b.push_back(std::move(factors.b));
    a.push_back(std::move(factors.a));
  }
  return {at::cat(b, 1), at::cat(a, 0)};
}

}  // namespace schmidt::convert
