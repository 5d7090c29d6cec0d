#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/scaled_tensor.h"

namespace schmidt::io {

/// A linear layer of an architecture of transformers that is several layers here, one below the
/// other in its rows.
struct FusedModule {
  struct Member {
    std::string_view name;  ///< "q_proj"
    int64_t share = 1;      ///< of the rows, in parts of all members' shares
  };
  std::string_view name;  ///< "qkv_proj"
  std::vector<Member> members;
};

/// Those of the architecture that config.json names: none but for phi3.
std::vector<FusedModule> fused_modules(const nlohmann::json& config);

/// Puts the members' rows, under their own names, in the place of each stored fused weight and
/// bias. Layers that compression_config names stay as they are.
/// Throws FormatError where rows do not divide among the members, or are FP8 times scales.
void split_fused_rows(const nlohmann::json& config, std::map<std::string, HfTensor>& tensors,
                      const std::filesystem::path& folder);

}  // namespace schmidt::io
