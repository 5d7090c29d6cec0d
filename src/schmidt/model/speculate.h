#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/model/generate.h"

namespace schmidt::model {

/// A smaller model that proposes what a model will say. The model reads all proposals in one step,
/// in about the time of one token, since its weights are read once:
///
///     draft   t  ->  a  ->  b  ->  c        one small step for each proposal
///     model   t a b c  ->  a  b  x          one step; x, its own word, ends the round
///
/// What is generated is what the model alone generates: every token is drawn from its logits, in
/// order, by its sampler. The draft draws with copies of that sampler, that is by the same random
/// numbers, so that two models which agree draw alike at any temperature.
/// Source: Leviathan et al., arXiv 2211.17192, which accepts by another rule.
struct Draft {
  const Model* model = nullptr;  ///< of the same tokens
  int64_t proposals = 4;         ///< most tokens of a round, 1 or more
  /// In [0, 1]: a round ends before a token that the draft gives less, for what is refused took a
  /// step of the draft, and the model longer to read.
  double least_probability = 0.0;
  KeptSequence kept = {};  ///< as the model's own

  // What came of it, over all calls.
  int64_t proposed = 0;
  int64_t accepted = 0;
};

/// generate() of one prompt that `draft` runs ahead of. Logits of several tokens in one step
/// differ from those of single steps by rounding, which decides between tokens as good as equal.
/// Throws c10::ValueError as generate(), and for a draft of another vocabulary.
Generation generate(const Model& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options, KeptSequence& kept, Draft& draft,
                    const TokenFn& on_token = {});

}  // namespace schmidt::model
