#include "schmidt/model/require_model.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/weights.h"

namespace schmidt::model {
namespace {

class Requirement {
 public:
  explicit Requirement(const io::Checkpoint& checkpoint)
      : checkpoint_(checkpoint), weights_(checkpoint) {}

  void tensor(const std::string& name, torch::IntArrayRef shape) const {
    weights_.require(name, shape);
    const io::TensorInfo& info = checkpoint_.tensors().at(name);
    if (!isFloatingType(info.dtype)) {
      throw FormatError(checkpoint_.path(), name,
                        fmt::format("expected a floating type, found {}", info.stored_as));
    }
  }

  void layer(const LayerSpec& spec) const {
    tensor(spec.name + ".weight", {spec.out_features, spec.in_features});
    if (spec.bias) tensor(spec.name + ".bias", {spec.out_features});
  }

 private:
  const io::Checkpoint& checkpoint_;
  Weights weights_;
};

void require_block(const Requirement& require, const ModelConfig& config, int64_t block) {
  const std::string prefix = block_prefix(block);
  require.tensor(prefix + "input_layernorm.weight", {config.hidden_size});
  require.tensor(prefix + "post_attention_layernorm.weight", {config.hidden_size});
  if (config.qk_norm) {
    require.tensor(prefix + "self_attn.q_norm.weight", {config.head_dim});
    require.tensor(prefix + "self_attn.k_norm.weight", {config.head_dim});
  }
  for (const Group group : kGroups) {
    const std::vector<LayerSpec> layers = group_layers(config, block, group);
    const std::optional<LayerSpec> fused = fused_layer(layers);
    if (fused && config.compressed_layers.contains(fused->name)) continue;
    for (const LayerSpec& layer : layers) {
      if (!config.compressed_layers.contains(layer.name)) require.layer(layer);
    }
  }
}

}  // namespace

void require_model(const io::Checkpoint& checkpoint) {
  const ModelConfig config = parse_config(checkpoint.config(), checkpoint.path());
  const Requirement require(checkpoint);
  require.tensor("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
  for (int64_t block = 0; block < config.num_layers; ++block) {
    require_block(require, config, block);
  }
  require.tensor("model.norm.weight", {config.hidden_size});
  const LayerSpec output = output_layer(config);
  if (has_tied_head(config) || config.compressed_layers.contains(output.name)) return;
  require_output_layer(config, Weights(checkpoint));
  require.layer(output);
}

void require_output_layer(const ModelConfig& config, const Weights& weights) {
  const LayerSpec output = output_layer(config);
  const std::string name = output.name + ".weight";
  if (has_tied_head(config) || config.compressed_layers.contains(output.name) ||
      weights.contains(name)) {
    return;
  }
  throw FormatError(
      weights.path(), name,
      fmt::format("expected a tensor [{}, {}], since tie_word_embeddings is not true, "
                  "found none",
                  output.out_features, output.in_features));
}

}  // namespace schmidt::model
