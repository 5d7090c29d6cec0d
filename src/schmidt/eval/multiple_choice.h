#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/eval/tasks.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::eval {

struct ChoiceOptions {
  int64_t context = 2048;  ///< tokens; of a longer question the beginning is cut off
  int64_t batch = 8;       ///< rows of a batch
};

/// A benchmark's questions as rows of tokens, and what a model says to them: the choice
/// with the largest log-likelihood after the prompt is its answer. As in
/// lm-evaluation-harness a choice's tokens are those of prompt and choice together that the
/// prompt alone does not have, the tokenizer's own opening token comes first, and of
/// equally likely choices the first counts.
class MultipleChoice {
 public:
  /// Throws c10::ValueError where there are no questions, or no room for a choice.
  MultipleChoice(const Task& task, const std::vector<Question>& questions,
                 const text::Tokenizer& tokenizer, const ChoiceOptions& options);

  /// What the model reads: int64 [b, t] each, padded on the right, the longest rows first.
  /// Choices of one token share their prompt's row.
  const std::vector<torch::Tensor>& batches() const { return batches_; }

  size_t questions() const { return answers_.size(); }
  const std::vector<size_t>& answers() const { return answers_; }

  /// log p of each choice of each question, nats, from the model's states after the final
  /// norm: a tensor [b, t, hidden] for each batch.
  std::vector<std::vector<double>> log_likelihoods(const model::Model& model,
                                                   const std::vector<torch::Tensor>& hidden) const;

  /// Share of questions answered rightly.
  double accuracy(const std::vector<std::vector<double>>& log_likelihoods) const;

 private:
  /// Logits at [row, begin + i] of a batch predict tokens[i].
  struct Continuation {
    size_t question, choice;
    int64_t row, begin;
    std::vector<int64_t> tokens;
  };

  std::vector<torch::Tensor> batches_;
  std::vector<std::vector<Continuation>> continuations_;  // of each batch
  std::vector<std::vector<double>> lengths_;              // of each choice; 1 where none counts
  std::vector<size_t> answers_;
};

}  // namespace schmidt::eval
