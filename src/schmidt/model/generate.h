#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "schmidt/model/model.h"
#include "schmidt/model/sampler.h"

namespace schmidt::model {

struct GenerateOptions {
  int64_t max_new_tokens = 128;  ///< >= 1, for each prompt
  SamplingOptions sampling = {};
  std::optional<std::vector<int64_t>> eos_ids = {};  ///< end a sequence; none: the model's own
  std::optional<int64_t> context = {};  ///< tokens of prompt and answer; none: max_positions
  /// Ids that are never drawn, as rows of the embedding beyond the tokenizer's tokens are.
  std::vector<int64_t> never_drawn = {};
};

enum class FinishReason {
  kLength,   ///< max_new_tokens reached, or the context is full
  kEos,      ///< an end-of-text token was drawn; it is not in `ids`
  kStopped,  ///< the callback said so
};

struct Generation {
  std::vector<int64_t> ids;  ///< new tokens only
  FinishReason finish = FinishReason::kLength;
};

/// Called as each token is drawn; false ends this row, which keeps the token.
using TokenFn = std::function<bool(int64_t row, int64_t id)>;

/// A sequence whose keys and values stay from one prompt to the next, as the turns of a
/// conversation ask for.
struct KeptSequence {
  std::vector<int64_t> ids;      ///< prompt and answer so far
  std::optional<KvCache> cache;  ///< of one row, which holds the first of `ids`
};

/// Continues every prompt; prompts may differ in length. What a row draws depends on
/// its prompt, the seed and its place in the batch, not on the other prompts.
/// Throws c10::ValueError if there is no prompt, one is empty or fills the context,
/// an id is not in the vocabulary, or an option is out of range.
std::vector<Generation> generate(const Model& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options, const TokenFn& on_token = {});

/// The same for one prompt that may begin as the one before: only what follows the ids
/// they have in common is computed. `kept` is this model's, and after an exception
/// still good for the next prompt.
Generation generate(const Model& model, const std::vector<int64_t>& prompt,
                    const GenerateOptions& options, KeptSequence& kept,
                    const TokenFn& on_token = {});

}  // namespace schmidt::model
