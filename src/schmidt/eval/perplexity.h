#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/model/model.h"

namespace schmidt::eval {

struct PerplexityOptions {
  int64_t context = 512;   ///< tokens in a window, >= 2
  int64_t max_tokens = 0;  ///< only the first so many tokens of the text; 0: all
};

/// How well a model predicts a text.
struct TextScore {
  int64_t tokens = 0;       ///< scored: context - 1 for each window
  double nll = 0.0;         ///< mean negative log likelihood, nats a token
  double nll_stderr = 0.0;  ///< its standard error over tokens
  double perplexity = 0.0;  ///< exp(nll)
};

/// How far a model's next-token distribution is from a reference's, over the same
/// positions: KL(reference || model), nats.
struct Divergence {
  double mean = 0.0, median = 0.0, p90 = 0.0, p99 = 0.0, p999 = 0.0, max = 0.0;
  double top1_agreement = 0.0;  ///< share of positions with the same most likely token
};

struct Evaluation {
  TextScore model;
  std::optional<TextScore> reference;
  std::optional<Divergence> divergence;
};

/// Perplexity over windows of `context` tokens without overlap; tokens 2..n of each
/// are scored, nothing is added, a last short window is dropped. With a reference,
/// also its perplexity and the divergence from it, from the same windows.
/// Throws c10::ValueError if the text has fewer than `context` tokens, an id is
/// outside the vocabulary, or the two models' vocabularies differ in size.
Evaluation evaluate_text(const model::Model& model, const model::Model* reference,
                         const std::vector<int64_t>& ids, const PerplexityOptions& options,
                         const ProgressFn& progress = {});

}  // namespace schmidt::eval
