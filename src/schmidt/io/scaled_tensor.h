#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/quantization_config.h"
#include "schmidt/io/safetensors_dtypes.h"

namespace schmidt::io {

/// The scales of a tensor [m, n]: one for each block of its rows and columns, the last of
/// which may be cut off.
struct Scales {
  const SafetensorsDtype* dtype = nullptr;
  ScaleBlock block;        ///< within m and n, never 0
  std::string_view bytes;  // [ceil(m / block.rows), ceil(n / block.columns)]
};

/// A tensor of a folder, its data in one of the mapped files.
struct HfTensor {
  const SafetensorsDtype* dtype = nullptr;  ///< of what is stored
  std::vector<int64_t> shape;
  std::string_view bytes;
  std::optional<Scales> scales;
};

/// Gives every FP8 tensor X its scales, stored as X_scale_inv or X_scale, and takes those
/// out of `tensors`, together with the scales of activations, which play no part in a weight.
/// FP8 without scales is taken as it is where nothing speaks of scales.
/// Throws FormatError, with `folder` and the tensor's name, for an FP8 tensor without scales
/// where `quantization` or another tensor's scales say that there should be some, for scales
/// of a shape that does not fit or of something else than an FP8 tensor, for a zero point
/// that is not 0, and for tensors of a format that is not read.
void attach_scales(std::map<std::string, HfTensor>& tensors, const WeightQuantization& quantization,
                   const std::filesystem::path& folder);

/// What `load_tensor` gives: float32 for FP8, anything else as it is stored.
torch::ScalarType loaded_dtype(const HfTensor& tensor);

/// The tensor in memory of its own, times its scales.
torch::Tensor load_tensor(const HfTensor& tensor);

}  // namespace schmidt::io
