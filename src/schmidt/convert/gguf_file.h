#pragma once

#include <cstdint>
#include <filesystem>

#include "schmidt/base/progress.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/quant/format.h"

namespace schmidt::convert {

struct GgufOptions {
  /// What matrices are stored in; norms and biases are F32. Without one every tensor keeps its
  /// type: a GGUF file comes out with the same bytes of every tensor, integers of few bits are
  /// blocks (block_format_of; Q8_0 for others of 8 bits), and the rest is in the type of the model.
  const quant::Format* type = nullptr;
  bool without_low_ranks = false;  ///< see DenseOptions
};

/// Writes a model as one GGUF file with all that llama.cpp reads: every compressed layer as the
/// matrix that it stands for, or in blocks where they hold its integers as they are; q and k in
/// llama.cpp's order of rows; vocabulary and chat template.
///
/// What is read of a GGUF file stays as it is but for the types: its metadata is handed on.
///
/// Returns the number of weights written. Throws c10::ValueError for a model that GGUF or
/// llama.cpp lacks an architecture for (gguf_architecture_of) and for a row that the type does not
/// divide, naming the nearest type that does; FormatError for what the model holds and for a
/// tokenizer that GGUF cannot say (text::gguf_keys); SystemError from the disk.
int64_t write_gguf_model(const io::Checkpoint& checkpoint, const GgufOptions& options,
                         const std::filesystem::path& file, const ProgressFn& progress = {});

}  // namespace schmidt::convert
