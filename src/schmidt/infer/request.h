#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/infer/token_score.h"
#include "schmidt/model/sampler.h"

namespace schmidt::infer {

/// One prompt to be continued once.
struct Request {
  std::vector<int64_t> prompt;  ///< a token or more
  int64_t max_new_tokens = 16;  ///< >= 0; fewer where the slot's context ends before
  model::SamplingOptions sampling = {};
  uint64_t stream = 0;      ///< tells answers of one seed apart
  bool ignore_eos = false;  ///< goes on behind an end-of-text token
  /// Scores of the drawn tokens, each with so many of the likeliest; none: no scores.
  std::optional<int64_t> top_scores = {};
  bool score_prompt = false;  ///< scores of the prompt's tokens too; needs top_scores
};

struct DrawnToken {
  int64_t id = 0;
  bool ends_text = false;           ///< an end-of-text token, no part of the answer
  std::optional<TokenScore> score;  ///< where the request asks for scores
};

enum class Ending {
  kLength,     ///< max_new_tokens reached, or the slot's context is full
  kEos,        ///< an end-of-text token was drawn
  kStopped,    ///< on_token said so
  kCancelled,  ///< by cancel(), or the scheduler was destroyed
  kFailed,     ///< the model or a callback threw
};

struct Outcome {
  Ending ending = Ending::kLength;
  std::string error;               ///< of kFailed: one line
  int64_t prompt_tokens = 0;       ///< of the request
  int64_t reused_tokens = 0;       ///< those of them that the slot held already
  int64_t generated_tokens = 0;    ///< drawn, an end-of-text token included
  double first_token_seconds = 0;  ///< from submit() to the first token; 0 without one
  double seconds = 0;              ///< from submit() to the end
};

/// Where an answer goes. All are called on the scheduler's thread, without a lock held, one after
/// another: on_prompt at most once, on_token for each token, on_end exactly once and last.
/// They should return soon: all other answers wait. What they throw ends this answer as kFailed.
struct Listener {
  /// Scores of the prompt's tokens from the second on, where the request asks for them.
  std::function<void(const std::vector<TokenScore>&)> on_prompt;
  /// false ends the answer, which keeps the token.
  std::function<bool(const DrawnToken&)> on_token;
  std::function<void(const Outcome&)> on_end;
};

}  // namespace schmidt::infer
