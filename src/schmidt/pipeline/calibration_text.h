#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/base/progress.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/weights.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::pipeline {

/// Which text a model is calibrated on.
struct CalibrationText {
  std::vector<std::string> files = {"self"};  ///< "self": the model's own, calibration half
  int64_t tokens = 49152;                     ///< that are used, at most
  int64_t context = 512;  ///< of a window, in tokens; no more than the model's positions
  bool skip_bad = false;  ///< broken lines of .jsonl files are left out
  uint64_t seed = 0;
};

/// A model's tokenizer; what it has to note is told. Throws FormatError, SystemError.
text::Tokenizer load_tokenizer(const io::Checkpoint& checkpoint, const Reporter& reporter);

nlohmann::json to_json(const CalibrationText& text);
/// Throws FormatError.
CalibrationText parse_calibration_text(const io::JsonRecord& record);

/// The text as windows of ids [windows, context], int64: files in equal parts,
/// conversations in the model's chat format and in a seeded order. The ranks of mpirun call it
/// together; rank 0 draws the text, so that sampling from the model is not repeated.
/// `load` is for the model that samples its own text.
/// Throws c10::ValueError for a file of less than a window, FormatError, SystemError.
torch::Tensor calibration_windows(const io::Checkpoint& checkpoint, const CalibrationText& text,
                                  const model::LoadOptions& load, const Reporter& reporter);

}  // namespace schmidt::pipeline
