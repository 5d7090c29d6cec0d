#include "schmidt/model/generate.h"

#include <ATen/ops/zeros.h>

namespace schmidt::model {
namespace {

// Tokens of all prompts in one step, so that long prompts take bounded memory.
constexpr int64_t kPrefillTokens = 4096;

struct Row {
  std::vector<int64_t> tokens;  // prompt and answer
  int64_t consumed = 0;         // how many of them the cache holds
  bool finished = false;
  Sampler sampler;
};

void check(const std::vector<std::vector<int64_t>>& prompts, const GenerateOptions& options,
           int64_t context, const ModelConfig& config) {
  TORCH_CHECK_VALUE(!prompts.empty(), "[generate] expected one prompt or more, got none");
  TORCH_CHECK_VALUE(options.max_new_tokens >= 1, "[generate] expected 1 new token or more, got ",
                    options.max_new_tokens);
  TORCH_CHECK_VALUE(context >= 1 && context <= config.max_positions,
                    "[generate] expected a context in [1, ", config.max_positions, "], got ",
                    context);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<int64_t>(prompts[i].size());
    TORCH_CHECK_VALUE(length >= 1, "[generate] expected a token or more in prompt ", i,
                      ", got none");
    TORCH_CHECK_VALUE(length < context, "[generate] expected fewer than ", context,
                      " tokens, the context, in prompt ", i, ", got ", length);
    for (const int64_t id : prompts[i]) {
      TORCH_CHECK_VALUE(id >= 0 && id < config.vocab_size, "[generate] expected ids in [0, ",
                        config.vocab_size, ") in prompt ", i, ", got ", id);
    }
  }
}

}  // namespace

std::vector<Generation> generate(const Model& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenFn& on_token) {
  const ModelConfig& config = model.config();
  const int64_t context = options.context.value_or(config.max_positions);
  check(prompts, options, context, config);
  const std::vector<int64_t>& eos_ids = options.eos_ids ? *options.eos_ids : config.eos_ids;
  const auto count = static_cast<int64_t>(prompts.size());

  std::vector<Row> rows;
  int64_t longest = 0;
  for (int64_t i = 0; i < count; ++i) {
    rows.push_back({prompts[i], 0, false, Sampler(options.sampling, static_cast<uint64_t>(i))});
    longest = std::max(longest, static_cast<int64_t>(prompts[i].size()));
  }
  // The comparison comes first: the sum may overflow.
  const int64_t capacity =
      options.max_new_tokens >= context - longest ? context : longest + options.max_new_tokens;
  KvCache cache = model.make_cache(count, capacity);
  std::vector<Generation> results(count);
  const int64_t chunk = std::max<int64_t>(1, kPrefillTokens / count);

  const auto accept = [&](int64_t i, int64_t id) {
    Row& row = rows[i];
    Generation& result = results[i];
    row.finished = true;
    if (std::find(eos_ids.begin(), eos_ids.end(), id) != eos_ids.end()) {
      result.finish = FinishReason::kEos;
      return;
    }
    result.ids.push_back(id);
    row.tokens.push_back(id);
    if (on_token && !on_token(i, id)) {
      result.finish = FinishReason::kStopped;
      return;
    }
    row.finished = std::cmp_equal(result.ids.size(), options.max_new_tokens) ||
                   std::cmp_equal(row.tokens.size(), context);
  };

  for (;;) {
    std::vector<int64_t> lengths(count, 0);
    int64_t widest = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (rows[i].finished) continue;
      const auto left = static_cast<int64_t>(rows[i].tokens.size()) - rows[i].consumed;
      lengths[i] = std::min(left, chunk);
      widest = std::max(widest, lengths[i]);
    }
    if (widest == 0) return results;
    const torch::Tensor ids = at::zeros({count, widest}, torch::kInt64);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(rows[i].tokens.begin() + rows[i].consumed, lengths[i],
                  ids.mutable_data_ptr<int64_t>() + i * widest);
      rows[i].consumed += lengths[i];
    }
    const torch::Tensor logits = model.step(ids, lengths, cache);
    for (int64_t i = 0; i < count; ++i) {
      if (lengths[i] == 0 || std::cmp_less(rows[i].consumed, rows[i].tokens.size())) continue;
      accept(i, rows[i].sampler.draw(logits[i], rows[i].tokens));
    }
  }
}

}  // namespace schmidt::model
