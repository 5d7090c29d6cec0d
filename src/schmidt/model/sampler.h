#pragma once

#include <cstdint>
#include <random>
#include <span>

#include <torch/types.h>

namespace schmidt::model {

/// How the next token is drawn. Steps run in the order of the fields; each but the
/// first two works on the probabilities that the ones before have left.
struct SamplingOptions {
  double repetition_penalty = 1.0;  ///< in [0.01, 100]; of the context: logit / p, * p below 0
  double temperature = 0.0;         ///< >= 0; logits are divided by it; 0 takes the likeliest
  int64_t top_k = 0;                ///< keeps the k likeliest; 0: all
  double top_p = 1.0;               ///< in (0, 1]; keeps the fewest tokens that reach this mass
  double min_p = 0.0;               ///< in [0, 1]; keeps tokens with p >= min_p * largest p
  uint64_t seed = 0;                ///< equal seeds draw equal tokens
};

inline constexpr double kLeastRepetitionPenalty = 0.01, kLargestRepetitionPenalty = 100.0;

/// Throws c10::ValueError naming the first option out of range, NaN included.
void check_sampling(const SamplingOptions& options);

/// Draws tokens for one sequence from a random state of its own.
class Sampler {
 public:
  /// `stream` tells sequences of one seed apart. Throws as check_sampling does.
  explicit Sampler(const SamplingOptions& options, uint64_t stream = 0);

  /// Whether it draws the likeliest token, whatever the context.
  bool takes_likeliest() const {
    return options_.temperature == 0.0 && options_.repetition_penalty == 1.0;
  }

  /// logits [vocab], of any floating type, on any device; `context` is the prompt
  /// and what was drawn so far, for the repetition penalty. Of equal logits the one
  /// with the lowest id is likelier.
  /// Throws c10::ValueError if logits hold NaN or no finite value.
  int64_t draw(const torch::Tensor& logits, std::span<const int64_t> context);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace schmidt::model
