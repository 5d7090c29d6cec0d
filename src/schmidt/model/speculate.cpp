#include "schmidt/model/speculate.h"

#include <algorithm>

#include <ATen/ops/tensor.h>

#include "schmidt/model/sequence.h"

namespace schmidt::model {
namespace {

bool has_dynamic_angles(const Model& model, int64_t length) {
  const RopeConfig& rope = model.config().rope;
  return rope.scaling == RopeScaling::kDynamic && length > rope.original_max_positions;
}

/// The tokens that the cache lacks, and what may come after each of the last `count`.
NextTokens read(const Model& model, const GenerationRules& rules, bool likeliest,
                const std::vector<int64_t>& tokens, int64_t count, KvCache& cache) {
  for (;;) {
    const int64_t held = cache.lengths()[0];
    const int64_t left = static_cast<int64_t>(tokens.size()) - held;
    const bool whole = has_dynamic_angles(model, static_cast<int64_t>(tokens.size()));
    // The last step has all tokens whose logits are asked for.
    const int64_t length =
        whole || left <= kPrefillTokens ? left : std::min(kPrefillTokens, left - count);
    const torch::Tensor ids =
        at::tensor(at::IntArrayRef(tokens.data() + held, length), torch::kInt64).unsqueeze(0);
    const int64_t wanted = length == left ? count : 0;
    const torch::Tensor states = model.step_states(ids, {length}, {wanted}, cache);
    if (wanted > 0) return {model, states, rules.never_drawn, likeliest};
  }
}

/// How many proposals the next round may have.
int64_t round_length(const Model& model, const Sequence& sequence, int64_t room,
                     const Draft& draft) {
  const int64_t size = sequence.size();
  // A token that is drawn after all proposals has to have room too.
  int64_t most = std::min(draft.proposals, room - size - 1);
  most = std::min(most, draft.model->config().max_positions - size);
  // Angles that change with the length are those of one token at a time.
  for (const Model* m : {&model, draft.model}) {
    if (has_dynamic_angles(*m, size + most)) return 0;
  }
  return std::max<int64_t>(most, 0);
}

/// What the draft draws after the sequence, up to `most` tokens.
std::vector<int64_t> propose(const GenerationRules& rules, const Sequence& sequence, int64_t most,
                             Draft& draft) {
  std::vector<int64_t> tokens = sequence.tokens();
  Sampler sampler = sequence.sampler();
  const bool judged = draft.least_probability > 0.0;
  for (int64_t i = 0; i < most; ++i) {
    const NextTokens next = read(*draft.model, rules, !judged && sampler.takes_likeliest(), tokens,
                                 1, *draft.kept.cache);
    const int64_t id = next.draw(0, sampler, tokens);
    if (judged && next.probability(0, id) < draft.least_probability) break;
    tokens.push_back(id);
  }
  return {tokens.begin() + sequence.size(), tokens.end()};
}

}  // namespace

Generation generate(const Model& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options, KeptSequence& kept, Draft& draft,
                    const TokenFn& on_token) {
  TORCH_CHECK_VALUE(draft.proposals >= 1, "[draft] expected a proposal or more, got ",
                    draft.proposals);
  TORCH_CHECK_VALUE(draft.least_probability >= 0.0 && draft.least_probability <= 1.0,
                    "[draft] expected a probability in [0, 1], got ", draft.least_probability);
  TORCH_CHECK_VALUE(draft.model->config().vocab_size == model.config().vocab_size,
                    "[draft] expected a model of ", model.config().vocab_size, " tokens, got ",
                    draft.model->config().vocab_size);
  const GenerationRules rules(model, {prompt}, options, on_token);
  const int64_t room = rules.room(static_cast<int64_t>(prompt.size()));
  keep_common(model, prompt, room, rules.context, kept);
  const int64_t draft_context = draft.model->config().max_positions;
  if (std::cmp_less(prompt.size(), draft_context)) {
    keep_common(*draft.model, prompt, std::min(room, draft_context), draft_context, draft.kept);
  } else {
    draft.kept = {};  // a prompt beyond the draft's context is the model's alone
  }
  Sequence sequence(rules, prompt, 0);
  while (!sequence.finished()) {
    const int64_t most = round_length(model, sequence, room, draft);
    const std::vector<int64_t> proposals = propose(rules, sequence, most, draft);
    std::vector<int64_t> tokens = sequence.tokens();
    tokens.insert(tokens.end(), proposals.begin(), proposals.end());
    const auto count = static_cast<int64_t>(proposals.size());
    const NextTokens next =
        read(model, rules, sequence.sampler().takes_likeliest(), tokens, count + 1, *kept.cache);
    int64_t accepted = 0;
    for (; !sequence.finished(); ++accepted) {
      const int64_t id = sequence.draw(next, accepted);
      if (accepted == count || id != proposals[accepted]) break;
    }
    draft.proposed += count;
    draft.accepted += std::min(accepted, count);
    // Nobody has read the last word yet: what stands in its place, and behind, are proposals.
    for (KeptSequence* k : {&kept, &draft.kept}) {
      if (!k->cache) continue;
      k->cache->truncate(0, std::min(k->cache->lengths()[0], sequence.size() - 1));
      k->ids = sequence.tokens();
    }
  }
  return sequence.take_answer();
}

}  // namespace schmidt::model
