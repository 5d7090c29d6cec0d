#pragma once

#include <torch/types.h>

#include "schmidt/kernels/activations.h"
#include "schmidt/kernels/quantized_weight.h"

namespace schmidt::kernels {

/// The integers of W [m, n] as tensors: packed int32 [m, words], scales [m, n / group] in float32,
/// bfloat16 or float16, zeros uint8 [m, n / group] or undefined. All contiguous and on the CPU, and
/// held by the caller while the result is used.
QuantizedWeight quantized_weight(const quant::IntegerFormat& format, const torch::Tensor& packed,
                                 const torch::Tensor& scales, const torch::Tensor& zeros);

/// Whether quantized_linear() is the fastest way to multiply x [..., n] here: x on the CPU, in
/// float32 or bfloat16, no gradient recorded, and few rows or activations that may be rounded.
bool suits_quantized_linear(const torch::Tensor& x, const QuantizedWeight& w,
                            Activations activations);

/// x W^T, x [..., n] in float32 or bfloat16 on the CPU -> [..., m] in x's dtype. Not
/// differentiable. Throws c10::ValueError if x does not fit.
torch::Tensor quantized_linear(const torch::Tensor& x, const QuantizedWeight& w,
                               Activations activations);

/// Rows begin .. end - 1 of W in numbers, into `to` [end - begin, n], contiguous, in float32 or
/// bfloat16 on the CPU.
void decode_into(const QuantizedWeight& w, int64_t begin, int64_t end, const torch::Tensor& to);

}  // namespace schmidt::kernels
