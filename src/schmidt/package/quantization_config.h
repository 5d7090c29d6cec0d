#pragma once

#include <optional>

#include <nlohmann/json.hpp>

namespace schmidt::package {

/// The quantization_config by which transformers (with the package compressed-tensors) and vLLM
/// open a model whose compression is integers alone, from its compression_config.layers: one
/// group for each format. None where there is no layer or any of another kind, or where the
/// embedding is among them, which these two open in the weight's own type alone.
///
/// transformers 5.23 with compressed-tensors 0.20 reads zero points only where it dequantizes as
/// it loads, which "dequantize" asks for.
std::optional<nlohmann::json> quantization_config(const nlohmann::json& layers);

}  // namespace schmidt::package
