#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/fused_rows.h"

namespace schmidt::io {

/// What llama.cpp divides the rotary frequencies by, float32 [head_dim / 2]: no weights, so that
/// they have no name in a Hugging Face model. The latter two are those of longrope.
inline constexpr std::string_view kGgufRopeFactors = "rope_freqs.weight";
inline constexpr std::string_view kGgufShortFactors = "rope_factors_short.weight";
inline constexpr std::string_view kGgufLongFactors = "rope_factors_long.weight";

/// A layer of a block in both kinds of files, "attn_q" and "self_attn.q_proj". "{}" in the latter
/// stands for the number of an expert: GGUF holds those of a block as one tensor.
struct GgufName {
  std::string_view gguf;
  std::string_view hugging_face;
};

/// Names of the tensors of an architecture, there and back.
class GgufNames {
 public:
  /// `own`: what the architecture calls otherwise than Llama does. `config`: config.json.
  /// `experts`: of a block.
  GgufNames(std::span<const GgufName> own, const nlohmann::json& config, int64_t experts);

  /// "model.layers.3.self_attn.q_proj.weight" of "blk.3.attn_q.weight": the tensors of the model
  /// that one of the file's holds, one after the other. Empty for other names.
  std::vector<std::string> of_model(std::string_view gguf) const;

  /// The file's tensor that holds one of the model's. None for other names.
  std::optional<std::string> of_file(std::string_view hugging_face) const;

  /// The share of the rows of a file's tensor that each of the model's has; empty where they are
  /// not rows of one matrix.
  std::vector<int64_t> row_shares(std::string_view gguf) const;

 private:
  const FusedModule* fused(std::string_view hugging_face) const;

  std::span<const GgufName> own_;
  std::vector<FusedModule> modules_;
  int64_t experts_ = 0;
};

/// "attn_q" of "blk.3.attn_q.weight"; empty for what lies in no block.
std::string_view part_of_block(std::string_view gguf);

/// 3 of it; none for what lies in no block.
std::optional<int64_t> number_of_block(std::string_view gguf);

}  // namespace schmidt::io
