#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "schmidt/text/documents.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::heal {

/// Which tokens of a conversation the loss counts.
enum class LossOn { kAssistant, kAll };

/// One conversation or piece of text.
struct Example {
  std::vector<int64_t> ids;
  std::vector<bool> trained;  ///< trained[i]: ids[i] is a token to be predicted
};

/// A document as the model reads it: a conversation in the format of its family, whole
/// and encoded as one text, so that ids are those of inference. Formats that name the
/// day write "26 Jul 2024", so that every day trains on the same ids.
///
/// kAssistant trains what the model has to write after the generation prompt, the token
/// that ends the turn included; a token that straddles the border counts as the
/// assistant's. An answer without words trains nothing. In plain text every token is
/// trained. Throws c10::ValueError as text::format_chat does.
Example make_example(const text::Tokenizer& tokenizer, std::string_view model_type,
                     const text::Document& document, LossOn loss_on);

/// The example in windows of at most `context` tokens without overlap, those left out
/// in which nothing can be learned: a window's first token follows from nothing.
/// Throws c10::ValueError if context is below 2.
std::vector<Example> windows_of(const Example& example, int64_t context);

}  // namespace schmidt::heal
