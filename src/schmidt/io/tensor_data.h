#pragma once

#include <string_view>

#include <torch/types.h>

#include "schmidt/quant/format.h"

namespace schmidt::io {

/// The tensor whose data lies in `bytes`, in memory of its own on the CPU.
/// A bool is true for any byte but 0. `bytes` must be as long as dtype and shape ask.
torch::Tensor copy_tensor(std::string_view bytes, torch::ScalarType dtype, c10::IntArrayRef shape);

/// What `decode_tensor` makes of a format: float32, but F16 and BF16 as they are.
torch::ScalarType decoded_dtype(const quant::Format& format);

/// The same from encoded values, decoded on all threads.
torch::Tensor decode_tensor(std::string_view bytes, const quant::Format& format,
                            c10::IntArrayRef shape);

}  // namespace schmidt::io
