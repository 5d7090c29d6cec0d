#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

namespace schmidt::model {

/// How rotary frequencies are stretched for contexts longer than those trained on.
enum class RopeScaling { kNone, kLinear, kLlama3, kYarn, kDynamic, kLongRope };

/// Rotary position embedding: pair i of a head of size d turns by p * theta^(-2i/d)
/// at position p, before scaling.
struct RopeConfig {
  double theta = 10000.0;
  /// theta of the layers with a window, which no scaling changes; none: as the others.
  std::optional<double> local_theta = {};
  double partial_factor =
      1.0;  ///< of a head the first int(d * it) values turn, as a head of that size
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;            ///< all but kNone: how much longer the context is
  double low_freq_factor = 1.0;   ///< kLlama3: wavelengths over original / low are divided
  double high_freq_factor = 4.0;  ///< kLlama3: wavelengths under original / high are kept
  /// kLlama3, kYarn, kDynamic, kLongRope: the context trained on, in tokens.
  int64_t original_max_positions = 0;
  double beta_fast = 32.0;        ///< kYarn: pairs of more turns in that context are kept
  double beta_slow = 1.0;         ///< kYarn: pairs of fewer turns in it are divided
  bool truncate = true;           ///< kYarn: those bounds are rounded outward to whole pairs
  double attention_factor = 1.0;  ///< kYarn, kLongRope: cos and sin are multiplied by it
  /// kLongRope: pair i turns more slowly by these, one in sequences up to the original context and
  /// one in all that are longer.
  std::vector<double> short_factors = {}, long_factors = {};
};

/// Where a block has its norms: before what reads the residual stream, after what is added to it,
/// or both.
enum class NormPlacement { kBefore, kAfter, kBoth };

/// An RMSNorm of q and of k before they turn: none, over each head, or over all heads at once.
enum class QkNorm { kNone, kHeads, kWhole };

/// What opens the gate of the MLP.
enum class Activation { kSilu, kGeluTanh };

/// How a checkpoint calls the layers of a mixture of experts.
enum class ExpertNames {
  kQwen,     ///< mlp.gate, mlp.experts.3.gate_proj
  kMixtral,  ///< block_sparse_moe.gate, block_sparse_moe.experts.3.w1
};

/// MLPs that are a mixture of experts: a router takes some of them for each token.
struct ExpertsConfig {
  ExpertNames names = ExpertNames::kQwen;
  int64_t count = 0;              ///< of a block
  int64_t active = 0;             ///< that a token takes
  int64_t intermediate_size = 0;  ///< of each
  bool normalized = true;         ///< the shares of those that a token takes add up to 1
  int64_t shared_size = 0;        ///< intermediate size of one more that every token takes; 0: none
  std::vector<bool> blocks;       ///< which have a mixture. Size num_layers
};

/// The architecture of a decoder-only model of the Llama family: families differ
/// in these values only, not in code.
struct ModelConfig {
  std::string model_type;  ///< of the table in model/families.h
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;  ///< of the original's MLPs
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;   ///< divides num_heads
  int64_t head_dim = 0;       ///< even; num_heads * head_dim need not be hidden_size
  int64_t max_positions = 0;  ///< the context, as far as kYarn and kDynamic stretch it
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tie_embeddings = false;
  bool attention_bias = false;  ///< of q, k and v
  bool output_bias = false;     ///< of o
  bool mlp_bias = false;        ///< of gate, up and down
  QkNorm qk_norm = QkNorm::kNone;
  NormPlacement norms = NormPlacement::kBefore;
  double norm_offset = 0.0;  ///< norms multiply by it + their weights
  Activation activation = Activation::kSilu;
  double embedding_scale = 1.0;  ///< of what the embedding gives
  double residual_scale = 1.0;   ///< of what attention and MLP add to the residual stream
  std::optional<double> attention_scale = {};    ///< of q k^T; none: 1 / sqrt(head_dim)
  std::optional<double> attention_softcap = {};  ///< c: scores s are c tanh(s / c)
  double logit_scale = 1.0;                      ///< of what the output layer gives
  std::optional<double> logit_softcap = {};      ///< c: logits z, scaled, are c tanh(z / c)
  /// For each layer, the number of latest positions that a token attends to, its
  /// own included; none: all of them. Size num_layers.
  std::vector<std::optional<int64_t>> windows;
  std::optional<ExpertsConfig> experts = {};  ///< none: every block has one MLP
  std::vector<int64_t> mlp_sizes;  ///< neurons of each block's MLP, fewer where it is pruned
  std::optional<int64_t> bos_id;
  std::vector<int64_t> eos_ids;            ///< generation stops at any of them
  std::optional<torch::ScalarType> dtype;  ///< what the checkpoint says it was trained in
  nlohmann::json compressed_layers = nlohmann::json::object();  ///< layer name -> its kind

  int64_t q_features() const { return num_heads * head_dim; }
  int64_t kv_features() const { return num_kv_heads * head_dim; }
  /// Of the tokens, how many an expert works on in the mean: all where there is none.
  double share_of_tokens(const std::optional<int64_t>& expert) const {
    const bool picked = expert && *expert < experts->count;
    return picked ? static_cast<double>(experts->active) / static_cast<double>(experts->count)
                  : 1.0;
  }
  bool mixes_experts(int64_t block) const {
    return experts && experts->blocks[static_cast<size_t>(block)];
  }
};

/// Reads a config.json, in the spelling of transformers 4 or 5. What it leaves out
/// has the default that transformers gives the family.
/// `path` is for messages. Throws FormatError for an unknown model type, a missing
/// or mistyped key, sizes that contradict each other or are out of range.
ModelConfig parse_config(const nlohmann::json& config, const std::filesystem::path& path);

}  // namespace schmidt::model
