#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "schmidt/eval/encoded_question.h"
#include "schmidt/eval/scores.h"
#include "schmidt/eval/shared_prefixes.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::eval {

/// A question by its place in the span that was asked, with the model's response.
using Answered = std::pair<size_t, Response>;
/// Called as questions are finished.
using AnswerFn = std::function<void(const std::vector<Answered>&)>;

/// Tokens that a generated text may have, as in the harness.
inline constexpr int64_t kNewTokens = 256;

/// Throws c10::ValueError where a task asks for texts and a model's context, in tokens, has no
/// room for one.
void check_room(const Task& task, int64_t context);

/// A model that answers benchmarks' questions. Model and tokenizer must outlive it.
class Respondent {
 public:
  Respondent(const model::Model& model, const text::Tokenizer& tokenizer);

  /// Questions that are asked together, by their places, counted through all sets: those of a set
  /// one after another, for they share what they begin with, and its longest first, as many as
  /// memory allows, and at most `most`.
  std::vector<std::vector<size_t>> groups(const Task& task,
                                          std::span<const std::vector<const Question*>> sets,
                                          int64_t most) const;

  /// Asks all at once where log-likelihoods are wanted, and a few at a time, in this order, where
  /// texts are. Prompts beyond the model's context lose their beginning.
  /// Throws c10::ValueError as check_room, and where a choice alone is longer than the context.
  void ask(const Task& task, std::span<const Question* const> questions, const AnswerFn& answer);

 private:
  void score_choices(std::span<const Question* const> questions, const AnswerFn& answer);
  void write_texts(const Task& task, std::span<const Question* const> questions,
                   const AnswerFn& answer);
  SharedPrefixes& prefixes(int64_t rows, int64_t capacity);
  int64_t tokens_in_cache() const;

  const model::Model& model_;
  const text::Tokenizer& tokenizer_;
  std::optional<SharedPrefixes> prefixes_;
};

}  // namespace schmidt::eval
