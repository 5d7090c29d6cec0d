#include "schmidt/model/generate.h"

#include <limits>

#include <ATen/ops/tensor.h>
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
  for (const int64_t id : options.never_drawn) {
    TORCH_CHECK_VALUE(id >= 0 && id < config.vocab_size, "[generate] expected ids in [0, ",
                      config.vocab_size, ") that are never drawn, got ", id);
  }
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

// Tokens that `longest` may grow to. The comparison comes first: the sum may overflow.
int64_t room(int64_t longest, int64_t context, int64_t max_new_tokens) {
  return max_new_tokens >= context - longest ? context : longest + max_new_tokens;
}

// Continues every row from what the cache holds of it.
std::vector<Generation> run(const Model& model, std::vector<Row>& rows, KvCache& cache,
                            const GenerateOptions& options, int64_t context,
                            const TokenFn& on_token) {
  const std::vector<int64_t>& eos_ids = options.eos_ids ? *options.eos_ids : model.config().eos_ids;
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t chunk = std::max<int64_t>(1, kPrefillTokens / count);
  const RopeConfig& rope = model.config().rope;
  torch::Tensor never_drawn;  // undefined where every id may be drawn
  if (!options.never_drawn.empty()) never_drawn = at::tensor(options.never_drawn);
  std::vector<Generation> results(count);

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
      // The angles of a prompt that dynamic scaling stretches are those of its whole length.
      const bool whole = rope.scaling == RopeScaling::kDynamic &&
                         std::cmp_greater(rows[i].tokens.size(), rope.original_max_positions);
      lengths[i] = whole ? left : std::min(left, chunk);
      widest = std::max(widest, lengths[i]);
    }
    if (widest == 0) return results;
    const torch::Tensor ids = at::zeros({count, widest}, torch::kInt64);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(rows[i].tokens.begin() + rows[i].consumed, lengths[i],
                  ids.mutable_data_ptr<int64_t>() + i * widest);
      rows[i].consumed += lengths[i];
    }
    torch::Tensor logits = model.step(ids, lengths, cache);
    if (never_drawn.defined()) {
      never_drawn = never_drawn.to(logits.device());
      logits = logits.index_fill(1, never_drawn, -std::numeric_limits<double>::infinity());
    }
    for (int64_t i = 0; i < count; ++i) {
      if (lengths[i] == 0 || std::cmp_less(rows[i].consumed, rows[i].tokens.size())) continue;
      accept(i, rows[i].sampler.draw(logits[i], rows[i].tokens));
    }
  }
}

// Drops from `kept` what `prompt` does not begin with; -> how many tokens are left in a
// cache with room for `needed`. One token of the prompt has to be run to be continued.
int64_t keep_common(const Model& model, const std::vector<int64_t>& prompt, int64_t needed,
                    int64_t context, KeptSequence& kept) {
  int64_t common = 0;
  if (kept.cache) {
    const auto held =
        std::min<int64_t>({kept.cache->lengths().at(0), static_cast<int64_t>(kept.ids.size()),
                           static_cast<int64_t>(prompt.size()) - 1});
    common = std::mismatch(prompt.begin(), prompt.begin() + held, kept.ids.begin()).first -
             prompt.begin();
    kept.cache->truncate(0, common);
  }
  kept.ids = prompt;
  if (!kept.cache) {
    kept.cache = model.make_cache(1, needed);
  } else if (kept.cache->capacity() < needed) {
    // Twice the room, so that the copies of a long conversation cost no more than it.
    const int64_t capacity = std::min(context, std::max(needed, 2 * kept.cache->capacity()));
    KvCache larger = model.make_cache(1, capacity);
    const auto copy = [&](const torch::Tensor& to, const torch::Tensor& from) {
      to.narrow(2, 0, common).copy_(from.narrow(2, 0, common));
    };
    for (int64_t layer = 0; layer < model.num_blocks(); ++layer) {
      copy(larger.keys(layer), kept.cache->keys(layer));
      copy(larger.values(layer), kept.cache->values(layer));
    }
    larger.advance(0, common);
    kept.cache = std::move(larger);
  }
  return common;
}

}  // namespace

std::vector<Generation> generate(const Model& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenFn& on_token) {
  const int64_t context = options.context.value_or(model.config().max_positions);
  check(prompts, options, context, model.config());
  std::vector<Row> rows;
  int64_t longest = 0;
  for (const std::vector<int64_t>& prompt : prompts) {
    rows.push_back({prompt, 0, false, Sampler(options.sampling, rows.size())});
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  KvCache cache = model.make_cache(static_cast<int64_t>(rows.size()),
                                   room(longest, context, options.max_new_tokens));
  return run(model, rows, cache, options, context, on_token);
}

Generation generate(const Model& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options, KeptSequence& kept, const TokenFn& on_token) {
  const int64_t context = options.context.value_or(model.config().max_positions);
  check({prompt}, options, context, model.config());
  const int64_t needed = room(static_cast<int64_t>(prompt.size()), context, options.max_new_tokens);
  const int64_t common = keep_common(model, prompt, needed, context, kept);
  std::vector<Row> rows;
  rows.push_back({prompt, common, false, Sampler(options.sampling, 0)});
  Generation result = std::move(run(model, rows, *kept.cache, options, context, on_token).at(0));
  kept.ids = std::move(rows[0].tokens);
  return result;
}

}  // namespace schmidt::model
