#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/quant/format.h"

namespace schmidt::pipeline {

/// What a model is written for.
enum class ExportTarget {
  kTransformers,  ///< a Hugging Face folder, numbers and forms of layers unchanged
  kDense,         ///< the same with every layer as the matrix that it stands for
  /// A GGUF file; of layers with a low rank beside a weight of full size (convert::low_rank_groups)
  /// a folder of base.gguf and lowrank.gguf, an adapter, unless `out` is named .gguf.
  kGguf,
  kPeft,  ///< a folder of such a model's base, dense, with the low ranks as an adapter of peft
};

struct ExportRecipe {
  ExportTarget target = ExportTarget::kDense;
  /// kDense, kPeft: what floating tensors are written in; none: as convert::dense_model has it.
  std::optional<torch::ScalarType> dtype = {};
  /// kDense: the seed of a rotation in which the model is written (convert::rotated_model).
  std::optional<uint64_t> rotation = {};
  /// kGguf: what matrices are stored in; none: as convert::GgufOptions has it.
  const quant::Format* type = nullptr;
};

/// Where an export happens.
struct ExportRun {
  std::filesystem::path out;
  bool force = false;  ///< replace what schmidt wrote there
};

struct ExportResult {
  std::vector<std::filesystem::path> files;  ///< of the weights, below or at `out`
  uint64_t bytes = 0;                        ///< of these files
  int64_t parameters = 0;
};

/// Writes a model for another program, a tensor at a time in memory. What `run.out` names appears
/// whole or not at all, and a run that ends without it leaves nothing.
/// Throws c10::ValueError where `run.out` is taken or is read, for an adapter of a model without
/// low ranks and as convert::write_gguf_model; FormatError for what the model holds, SystemError
/// from the disk.
ExportResult export_model(const io::Checkpoint& model, const ExportRecipe& recipe,
                          const ExportRun& run, const Reporter& reporter);

}  // namespace schmidt::pipeline
