#include "schmidt/model/sequence.h"

#include <algorithm>
#include <limits>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>

namespace schmidt::model {
namespace {

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

}  // namespace

GenerationRules::GenerationRules(const Model& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, TokenFn receiver)
    : context(options.context.value_or(model.config().max_positions)),
      max_new_tokens(options.max_new_tokens),
      eos_ids(options.eos_ids ? *options.eos_ids : model.config().eos_ids),
      sampling(options.sampling),
      never_drawn(options.never_drawn),
      on_token(std::move(receiver)) {
  check(prompts, options, context, model.config());
}

int64_t GenerationRules::room(int64_t length) const {
  // The comparison comes first: the sum may overflow.
  return max_new_tokens >= context - length ? context : length + max_new_tokens;
}

NextTokens::NextTokens(const Model& model, const torch::Tensor& states,
                       const std::vector<int64_t>& excluded, bool likeliest) {
  const at::NoGradGuard no_grad;
  if (likeliest) likeliest_ = model.find_likeliest(states, excluded);
  if (likeliest_) return;
  drawable_ = logits_ = model.logits(states);
  if (excluded.empty()) return;
  drawable_ = logits_.index_fill(-1, at::tensor(excluded).to(logits_.device()),
                                 -std::numeric_limits<double>::infinity());
}

int64_t NextTokens::draw(int64_t row, Sampler& sampler, std::span<const int64_t> context) const {
  if (likeliest_) return likeliest_->at(static_cast<size_t>(row));
  return sampler.draw(drawable_[row], context);
}

double NextTokens::probability(int64_t row, int64_t id) const {
  return at::softmax(logits_[row].to(torch::kFloat32), -1)[id].item<double>();
}

Sequence::Sequence(const GenerationRules& rules, std::vector<int64_t> prompt, int64_t row)
    : rules_(&rules),
      tokens_(std::move(prompt)),
      row_(row),
      sampler_(rules.sampling, static_cast<uint64_t>(row)) {}

int64_t Sequence::draw(const NextTokens& next, int64_t row) {
  const int64_t id = next.draw(row, sampler_, tokens_);
  finished_ = true;
  if (std::find(rules_->eos_ids.begin(), rules_->eos_ids.end(), id) != rules_->eos_ids.end()) {
    answer_.finish = FinishReason::kEos;
    return id;
  }
  answer_.ids.push_back(id);
  tokens_.push_back(id);
  if (rules_->on_token && !rules_->on_token(row_, id)) {
    answer_.finish = FinishReason::kStopped;
    return id;
  }
  finished_ = std::cmp_equal(answer_.ids.size(), rules_->max_new_tokens) ||
              std::cmp_equal(tokens_.size(), rules_->context);
  return id;
}

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
    // Twice the room, so that a long conversation makes few tables of angles.
    kept.cache->extend(std::min(context, std::max(needed, 2 * kept.cache->capacity())));
  }
  return common;
}

}  // namespace schmidt::model
