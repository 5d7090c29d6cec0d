#include "schmidt/plan/footprint.h"

#include "schmidt/tn/contraction_plan.h"

namespace schmidt::plan {
namespace {

constexpr int64_t kRows = 4096;                                   // of a training batch
constexpr double kInt4Bytes = (4.0 + (16.0 + 4.0) / 64.0) / 8.0;  // code, scale and zero point
constexpr double kPivotBytes = 4.0;

double cost(const LayerPlan& plan) {
  const double rows = static_cast<double>(kRows);
  return tn::contraction_cost(plan.shape, plan.max_bonds, kRows, {.form_matrix = true}) / rows;
}

}  // namespace

double Footprint::bytes(double bytes_per_scalar) const {
  return static_cast<double>(parameters) * bytes_per_scalar +
         kPivotBytes * static_cast<double>(pivots);
}

double Footprint::mixed_bytes() const {
  return bytes(2.0) - (2.0 - kInt4Bytes) * static_cast<double>(dense_layers);
}

Footprint footprint(const Outline& model, const std::vector<LayerPlan>& plan) {
  Footprint f{.parameters = model.parameters};
  const int64_t head = model.config.vocab_size * model.config.hidden_size;
  f.multiplications_before = static_cast<double>(head);
  for (const Layer& layer : model.layers) {
    f.dense_layers += layer.numel();
    f.multiplications_before +=
        model.config.share_of_tokens(layer.expert) * static_cast<double>(layer.numel());
  }
  f.multiplications = f.multiplications_before;
  for (const LayerPlan& p : plan) {
    if (p.is_rounded()) {
      f.parameters += p.parameters() - p.layer.numel();
      if (p.layer.block >= 0) f.dense_layers -= p.layer.numel();
      continue;
    }
    f.tensorized += p.parameters();
    f.tensorized_before += p.layer.numel();
    f.multiplications += model.config.share_of_tokens(p.layer.expert) *
                         (cost(p) - static_cast<double>(p.layer.numel()));
    if (!p.fixed_gauge) continue;
    for (const int64_t bond : p.max_bonds) f.pivots += bond;
  }
  f.parameters += f.tensorized - f.tensorized_before;
  f.dense_layers -= f.tensorized_before;
  return f;
}

double kv_cache_bytes(const model::ModelConfig& config, int64_t context, double bytes_per_scalar) {
  return 2.0 * static_cast<double>(config.num_layers * config.kv_features()) *
         static_cast<double>(context) * bytes_per_scalar;
}

}  // namespace schmidt::plan
