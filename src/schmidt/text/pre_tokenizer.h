#pragma once

#include <functional>
#include <string>
#include <vector>

#include "schmidt/text/json_view.h"

namespace schmidt::text {

/// A stretch of text that no token will cross.
struct Piece {
  std::string text;       ///< valid UTF-8, not empty
  bool at_start = false;  ///< whether it begins where the whole text begins
};

/// Cuts pieces further and rewrites them. Keeps no state; safe for several threads.
using PreTokenizer = std::function<std::vector<Piece>(std::vector<Piece>)>;

/// The `pre_tokenizer` object of tokenizer.json: Sequence, ByteLevel, Digits, Split,
/// Metaspace, Whitespace, WhitespaceSplit, Punctuation. Throws FormatError for another
/// type or a wrong field; the result throws it where a pattern takes too many steps.
PreTokenizer make_pre_tokenizer(const JsonView& json);

}  // namespace schmidt::text
