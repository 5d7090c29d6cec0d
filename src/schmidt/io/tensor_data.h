#pragma once

#include <string>
#include <string_view>

#include <torch/types.h>

#include "schmidt/quant/format.h"

namespace schmidt::io {

/// What becomes of the pages that are read: kGivenBack, as they are read, so that no large part of
/// them is in memory beside its copy. For bytes of a MappedFile only (forget_pages).
enum class Pages { kKept, kGivenBack };

/// The tensor whose data lies in `bytes`, in memory of its own on the CPU.
/// A bool is true for any byte but 0. `bytes` must be as long as dtype and shape ask.
torch::Tensor copy_tensor(std::string_view bytes, torch::ScalarType dtype, c10::IntArrayRef shape,
                          Pages pages = Pages::kKept);

/// What `decode_tensor` makes of a format: float32, but F16 and BF16 as they are.
torch::ScalarType decoded_dtype(const quant::Format& format);

/// The same from encoded values, decoded on all threads.
torch::Tensor decode_tensor(std::string_view bytes, const quant::Format& format,
                            c10::IntArrayRef shape);

/// A floating tensor as `format` stores its values, row after row, encoded on all threads; `name`
/// is for messages. Throws c10::ValueError for rows that are no multiple of its blocks, and for a
/// value that is not finite, or not any more in the format.
std::string encode_tensor(const torch::Tensor& tensor, const quant::Format& format,
                          const std::string& name);

}  // namespace schmidt::io
