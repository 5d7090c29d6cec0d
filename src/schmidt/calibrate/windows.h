#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace schmidt::calibrate {

/// Windows of tokens [tokens / context, context], int64, drawn without overlap and in
/// equal parts from several texts; a text too short for its part gives what it has,
/// and the others the rest. The same texts and seed give the same windows.
/// Throws c10::ValueError if a text is shorter than one window, or all together give
/// none.
torch::Tensor calibration_windows(const std::vector<std::vector<int64_t>>& texts, int64_t context,
                                  int64_t tokens, uint64_t seed);

}  // namespace schmidt::calibrate
