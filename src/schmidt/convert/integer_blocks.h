#pragma once

#include <string>

#include "schmidt/model/quantized_matrix.h"
#include "schmidt/quant/format.h"

namespace schmidt::convert {

/// The block format that holds integers of few bits as they are, or null where there is none: the
/// groups have to consist of whole blocks of 32.
///
///   bits                 symmetric   with zero points
///   2, 3, 4              Q4_0        Q4_1, minimum -s z rounded to float16
///   5                    Q5_0        Q5_1, the same
///   6                    Q8_0        Q8_0, codes q - z
///   8                    Q8_0        none
const quant::Format* block_format_of(const quant::IntegerFormat& integers);

/// The matrix in that format, row after row. Scales are rounded to float16, which most are stored
/// in. Throws c10::ValueError where there is no such format, and for scales beyond float16.
std::string integer_blocks(const model::QuantizedMatrix& matrix);

}  // namespace schmidt::convert
