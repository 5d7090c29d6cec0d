#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/generate.h"

namespace schmidt::model {

/// Tokens of all prompts in one step, so that long prompts take bounded memory.
inline constexpr int64_t kPrefillTokens = 4096;

/// GenerateOptions with what the model says where they say nothing.
struct GenerationRules {
  /// Throws c10::ValueError as generate() does for prompts and options that do not fit the model.
  GenerationRules(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                  const GenerateOptions& options, TokenFn on_token);

  /// Tokens that a sequence of `length` may grow to.
  int64_t room(int64_t length) const;

  int64_t context, max_new_tokens;
  std::vector<int64_t> eos_ids;
  SamplingOptions sampling;
  std::vector<int64_t> never_drawn;
  TokenFn on_token;
};

/// What may come after some hidden states: the likeliest tokens alone where they are drawn and can
/// be found so, else logits of all.
class NextTokens {
 public:
  /// states [k, hidden], as Model::logits takes them; `excluded` ids are never drawn.
  NextTokens(const Model& model, const torch::Tensor& states, const std::vector<int64_t>& excluded,
             bool likeliest);

  /// After state `row`, in a sequence of those tokens so far. Throws as Sampler::draw: what is not
  /// finite is never searched.
  int64_t draw(int64_t row, Sampler& sampler, std::span<const int64_t> context) const;

  /// Of a token, by the logits as they are. Not where only the likeliest are known.
  double probability(int64_t row, int64_t id) const;

  /// [k, vocab]; undefined where only the likeliest are known.
  const torch::Tensor& logits() const { return logits_; }

 private:
  std::optional<std::vector<int64_t>> likeliest_;
  torch::Tensor logits_, drawable_;
};

/// A prompt and the answer that grows behind it.
class Sequence {
 public:
  /// `row` is its place in the batch. `rules` have to outlive it.
  Sequence(const GenerationRules& rules, std::vector<int64_t> prompt, int64_t row);

  const std::vector<int64_t>& tokens() const { return tokens_; }  ///< prompt and answer
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  bool finished() const { return finished_; }
  const Sampler& sampler() const { return sampler_; }

  /// Draws the next token, which comes after state `row` of `next`, and takes it up unless it ends
  /// the text.
  int64_t draw(const NextTokens& next, int64_t row);

  Generation take_answer() { return std::move(answer_); }

 private:
  const GenerationRules* rules_;
  std::vector<int64_t> tokens_;
  int64_t row_;
  Sampler sampler_;
  Generation answer_;
  bool finished_ = false;
};

/// Drops from `kept` what `prompt` does not begin with; -> how many tokens are left in a cache
/// with room for `needed`, which may grow to `context`. One token of the prompt has to be run to
/// be continued.
int64_t keep_common(const Model& model, const std::vector<int64_t>& prompt, int64_t needed,
                    int64_t context, KeptSequence& kept);

}  // namespace schmidt::model
