#pragma once

#include <cstdint>
#include <filesystem>

#include "schmidt/base/progress.h"
#include "schmidt/eval/self_text.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"

namespace schmidt::pipeline {

/// What of a text that a model draws from itself ended up in a file.
struct SampledText {
  int64_t documents = 0;
  int64_t tokens = 0;  ///< as they were drawn
};

/// Writes the text that `eval::sample_self_text` draws as a .jsonl file of records {"text"}, one
/// for each sample, special tokens in it. Batches that are finished are kept in OUT.partial, so
/// that a killed run goes on.
/// `options.never_drawn` is set to what the tokenizer lacks. `force` replaces a file that schmidt
/// wrote. Throws c10::ValueError for another ending of the name, options out of range or a model
/// without a BOS or EOS token; FormatError, SystemError.
SampledText sample_text(const io::Checkpoint& checkpoint, eval::SelfTextOptions options,
                        const model::LoadOptions& load, const std::filesystem::path& out,
                        bool force, const Reporter& reporter);

}  // namespace schmidt::pipeline
