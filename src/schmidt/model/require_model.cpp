#include "schmidt/model/require_model.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/layers.h"
#include "schmidt/model/model.h"

namespace schmidt::model {

void require_model(const io::Checkpoint& checkpoint) {
  Model::load(checkpoint, {.device = torch::kMeta});
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
