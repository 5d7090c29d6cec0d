#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/text/tokenizer.h"

namespace schmidt::text {

/// Whether any of the ids stands for text: special tokens, and ids without a token, do not.
bool has_text(const Tokenizer& tokenizer, const std::vector<int64_t>& ids);

/// A decoder of an answer, without special tokens. Decoders of the SentencePiece kind drop the
/// space before the first token of a text; one that `continues` a text keeps it.
StreamDecoder answer_decoder(const Tokenizer& tokenizer, bool continues);

}  // namespace schmidt::text
