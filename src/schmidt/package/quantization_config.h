#pragma once

#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>

namespace schmidt::package {

/// The quantization_config by which transformers opens a model without code of ours, from its whole
/// config. None where compression_config has no layer, layers of several kinds or of any other
/// kind than these, in an architecture that holds several layers as one (io::fused_modules), or for
/// the embedding, which transformers opens in the weight's own type alone.
///
/// Integers alone: that of compressed-tensors, one group for each format, which vLLM reads too.
/// transformers 5.23 with compressed-tensors 0.20 reads zero points only where it dequantizes as
/// it loads, which "dequantize" asks for, and then takes all layers to be of one format: none for
/// several. None for a mixture of experts, whose packed experts it would look for.
///
/// NF4 alone: that of bitsandbytes; linear layers that are dense are named in
/// llm_int8_skip_modules.
///
/// `path` is for messages. Throws FormatError as model::parse_config.
std::optional<nlohmann::json> quantization_config(const nlohmann::json& config,
                                                  const std::filesystem::path& path);

}  // namespace schmidt::package
