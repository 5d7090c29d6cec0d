#pragma once

#include <array>
#include <string_view>
#include <utility>

#include <c10/core/ScalarType.h>
#include <nlohmann/json.hpp>

namespace schmidt::io {

/// Floating types as config.json, and PyTorch, spell them.
inline constexpr std::array<std::pair<std::string_view, c10::ScalarType>, 4> kDtypeNames = {{
    {"float32", c10::ScalarType::Float},
    {"float16", c10::ScalarType::Half},
    {"bfloat16", c10::ScalarType::BFloat16},
    {"float64", c10::ScalarType::Double},
}};

/// Throws c10::ValueError for a type that is not among them.
std::string_view dtype_name(c10::ScalarType dtype);

/// Says in a config.json what the weights are in: under `dtype` or `torch_dtype`, whichever it has.
void name_dtype(nlohmann::json& config, c10::ScalarType dtype);

}  // namespace schmidt::io
