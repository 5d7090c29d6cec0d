#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/eval/task.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::eval {

struct ChoiceOptions {
  int64_t context = 2048;  ///< tokens; of a longer question the beginning is cut off
  int64_t batch = 8;       ///< rows of a batch
};

/// A benchmark's questions as rows of tokens, and what a model says to them: the choice
/// with the largest log-likelihood after the prompt is its answer, of equally likely ones the
/// first. For work that goes through a model block by block; a Respondent answers faster.
class MultipleChoice {
 public:
  /// Throws c10::ValueError where there are no questions, or no room for a choice.
  MultipleChoice(const Task& task, const std::vector<Question>& questions,
                 const text::Tokenizer& tokenizer, const ChoiceOptions& options);

  /// What the model reads: int64 [b, t] each, padded on the right, the longest rows first.
  /// Choices of one token share their prompt's row.
  const std::vector<torch::Tensor>& batches() const { return batches_; }

  size_t questions() const { return questions_.size(); }
  std::vector<size_t> answers() const;

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
  bool by_length_;
  std::vector<Question> questions_;
};

}  // namespace schmidt::eval
