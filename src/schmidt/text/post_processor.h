#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/text/json_view.h"

namespace schmidt::text {

/// What a tokenizer sets around a text of its own accord.
struct SpecialFrame {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

/// The `post_processor` object of tokenizer.json, as far as it concerns the ids of
/// one text: TemplateProcessing, ByteLevel (no effect), Sequence, BertProcessing,
/// RobertaProcessing. Throws FormatError.
SpecialFrame parse_post_processor(const JsonView& json);

}  // namespace schmidt::text
