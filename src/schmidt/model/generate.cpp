#include "schmidt/model/generate.h"

#include <algorithm>

#include <ATen/ops/zeros.h>

#include "schmidt/model/sequence.h"

namespace schmidt::model {
namespace {

// Continues every sequence from what the cache holds of it.
void run(const Model& model, const GenerationRules& rules, std::vector<Sequence>& rows,
         KvCache& cache) {
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t chunk = std::max<int64_t>(1, kPrefillTokens / count);
  const RopeConfig& rope = model.config().rope;
  for (;;) {
    std::vector<int64_t> lengths(count, 0);
    int64_t widest = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (rows[i].finished()) continue;
      const int64_t left = rows[i].size() - cache.lengths()[i];
      // The angles of a prompt that dynamic scaling stretches are those of its whole length.
      const bool whole =
          rope.scaling == RopeScaling::kDynamic && rows[i].size() > rope.original_max_positions;
      lengths[i] = whole ? left : std::min(left, chunk);
      widest = std::max(widest, lengths[i]);
    }
    if (widest == 0) return;
    const torch::Tensor ids = at::zeros({count, widest}, torch::kInt64);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(rows[i].tokens().begin() + cache.lengths()[i], lengths[i],
                  ids.mutable_data_ptr<int64_t>() + i * widest);
    }
    std::vector<int64_t> wanted(count, 0), drawing;
    for (int64_t i = 0; i < count; ++i) {
      if (lengths[i] == 0 || cache.lengths()[i] + lengths[i] < rows[i].size()) continue;
      wanted[i] = 1;
      drawing.push_back(i);
    }
    const torch::Tensor states = model.step_states(ids, lengths, wanted, cache);
    if (drawing.empty()) continue;
    const NextTokens next(model, states, rules.never_drawn, rows[0].sampler().takes_likeliest());
    for (size_t i = 0; i < drawing.size(); ++i) {
      rows[drawing[i]].draw(next, static_cast<int64_t>(i));
    }
  }
}

}  // namespace

std::vector<Generation> generate(const Model& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenFn& on_token) {
  const GenerationRules rules(model, prompts, options, on_token);
  std::vector<Sequence> rows;
  int64_t longest = 0;
  for (const std::vector<int64_t>& prompt : prompts) {
    rows.emplace_back(rules, prompt, static_cast<int64_t>(rows.size()));
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  KvCache cache = model.make_cache(static_cast<int64_t>(rows.size()), rules.room(longest));
  run(model, rules, rows, cache);
  std::vector<Generation> answers;
  for (Sequence& row : rows) answers.push_back(row.take_answer());
  return answers;
}

Generation generate(const Model& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options, KeptSequence& kept, const TokenFn& on_token) {
  const GenerationRules rules(model, {prompt}, options, on_token);
  keep_common(model, prompt, rules.room(static_cast<int64_t>(prompt.size())), rules.context, kept);
  std::vector<Sequence> rows;
  rows.emplace_back(rules, prompt, 0);
  run(model, rules, rows, *kept.cache);
  kept.ids = rows[0].tokens();
  return rows[0].take_answer();
}

}  // namespace schmidt::model
