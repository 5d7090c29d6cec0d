#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/infer/request.h"
#include "schmidt/serve/served_model.h"
#include "schmidt/text/stop_strings.h"

namespace schmidt::serve {

/// A token of prompt or answer with what the model says of it.
struct LoggedToken {
  int64_t id = 0;
  std::optional<infer::TokenScore> score;  ///< none of a prompt's first token
  int64_t offset = 0;                      ///< characters of the choice's text before it
};

/// A part of an answer, by itself: whoever renders it needs nothing else.
struct Piece {
  int64_t index = 0;  ///< of the answer
  std::string text;
  std::vector<LoggedToken> tokens;
  std::optional<std::string> finish_reason;  ///< "stop", "length"; none before the end
};

/// The prompt's tokens with scores from the second on. The offsets are those in the prompt's own
/// text; a first token that `text` does not spell, as a BOS, has offset 0.
std::vector<LoggedToken> logged_prompt(const text::Tokenizer& tokenizer, const std::string& text,
                                       const std::vector<int64_t>& prompt,
                                       const std::vector<infer::TokenScore>& scores);

/// One answer as its tokens come.
class Choice {
 public:
  /// `echo` is text that the answer begins with, as the prompt; may be empty. One that
  /// `continues` a text keeps the space that it may begin with; a decoder drops that of a text's
  /// first token.
  Choice(const text::Tokenizer& tokenizer, std::vector<std::string> stops, int64_t index,
         std::string echo, bool continues);

  /// -> whether the answer goes on.
  bool push(const infer::DrawnToken& token);

  /// Takes up how it ended.
  void end(const infer::Outcome& outcome);

  /// What has become certain since the last call.
  Piece take();

  int64_t index() const { return index_; }
  bool has_news() const { return !fresh_.text.empty(); }
  const infer::Outcome& outcome() const { return outcome_; }

 private:
  void add(std::string text);

  text::StreamDecoder decoder_;
  text::StopStrings stop_;
  int64_t index_;
  int64_t decoded_ = 0;  // characters that the decoder has given, held back ones too
  Piece fresh_;
  infer::Outcome outcome_;
};

}  // namespace schmidt::serve
