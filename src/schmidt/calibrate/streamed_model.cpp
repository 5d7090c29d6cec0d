#include "schmidt/calibrate/streamed_model.h"

#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/norm.h"
#include "schmidt/model/require_model.h"
#include "schmidt/model/vocabulary_scale.h"

namespace schmidt::calibrate {

StreamedModel::StreamedModel(const io::Checkpoint& checkpoint, const model::LoadOptions& options)
    : config_(model::parse_config(checkpoint.config(), checkpoint.path())),
      weights_(checkpoint, options) {}

torch::Tensor StreamedModel::embed(const torch::Tensor& ids) const {
  const model::LayerSpec embedding = model::embedding_layer(config_);
  return model::embedded(
      config_,
      model::load_group({&embedding, 1}, config_, weights_)->rows(ids.to(options().device)));
}

model::RopeTable StreamedModel::rope(int64_t t) const {
  return model::rope_table(config_, t, options().device);
}

StreamedModel::Head StreamedModel::head() const {
  Head head{&config_, weights_.read("model.norm.weight", {config_.hidden_size}), {}};
  const bool tied = model::has_tied_head(config_);
  if (!tied) model::require_output_layer(config_, weights_);
  const model::LayerSpec output =
      tied ? model::embedding_layer(config_) : model::output_layer(config_);
  head.output = model::load_group({&output, 1}, config_, weights_);
  return head;
}

torch::Tensor StreamedModel::Head::normed(const torch::Tensor& h) const {
  return model::normed(*config, h, norm);
}

torch::Tensor StreamedModel::Head::logits(const torch::Tensor& h) const {
  return model::logits_of(*config, output->apply(normed(h)));
}

model::ProjectionPtr load_changed_group(const io::Checkpoint& checkpoint,
                                        const model::ModelConfig& config, int64_t block,
                                        model::Group group,
                                        std::map<std::string, torch::Tensor> tensors,
                                        const std::set<std::string>& dropped,
                                        const model::LoadOptions& options) {
  const auto specs = model::group_layers(config, block, group);
  std::vector<model::LayerSpec> stored = specs;
  if (const auto fused = model::fused_layer(specs)) stored.push_back(*fused);
  for (const model::LayerSpec& spec : stored) {
    const std::string prefix = spec.name + ".";
    for (auto at = checkpoint.tensors().lower_bound(prefix);
         at != checkpoint.tensors().end() && at->first.starts_with(prefix); ++at) {
      const std::string& name = at->first;
      if (!dropped.contains(name) && !tensors.contains(name)) tensors[name] = checkpoint.load(name);
    }
  }
  return model::load_group(specs, config,
                           model::Weights(std::move(tensors), checkpoint.path(), options));
}

}  // namespace schmidt::calibrate
