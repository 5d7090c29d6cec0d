#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "schmidt/text/json_view.h"

namespace schmidt::text {

/// Rewrites valid UTF-8 before it is cut. Keeps no state; safe for several threads.
using Normalizer = std::function<std::string(std::string)>;

/// The `normalizer` object of tokenizer.json: Sequence, NFC, NFD, NFKC, NFKD, Prepend,
/// Replace, Strip, Lowercase, ByteLevel. Throws FormatError for another type or a
/// wrong field.
Normalizer make_normalizer(const JsonView& json);

}  // namespace schmidt::text
