#pragma once

#include <string_view>

#include <torch/types.h>

#include "schmidt/io/block_formats.h"

namespace schmidt::io {

/// The tensor whose data lies in `bytes`, in memory of its own on the CPU.
/// A bool is true for any byte but 0. `bytes` must be as long as dtype and shape ask.
torch::Tensor copy_tensor(std::string_view bytes, torch::ScalarType dtype, c10::IntArrayRef shape);

/// What `decode_tensor` makes of a format: float32, but F16 and BF16 as they are.
torch::ScalarType decoded_dtype(const BlockFormat& format);

/// The same from blocks of ggml's, decoded on all threads.
torch::Tensor decode_tensor(std::string_view bytes, const BlockFormat& format,
                            c10::IntArrayRef shape);

}  // namespace schmidt::io
