#include "tests/support/diagonal_projection.h"

#include <fmt/format.h>

namespace schmidt::test {
namespace {

using model::NamedTensor;
using model::Role;

class DiagonalProjection : public model::Projection {
 public:
  DiagonalProjection(std::string name, torch::Tensor diagonal, torch::Tensor left,
                     torch::Tensor right, std::optional<torch::Tensor> bias)
      : name_(std::move(name)),
        diagonal_(std::move(diagonal)),
        left_(std::move(left)),
        right_(std::move(right)),
        bias_(std::move(bias)) {}

  torch::Tensor apply(const torch::Tensor& x) const override {
    const torch::Tensor y = torch::matmul(torch::matmul(x, right_.t()), left_.t());
    const int64_t k = diagonal_.size(0);
    const torch::Tensor scaled =
        torch::constant_pad_nd(x.narrow(-1, 0, k) * diagonal_, {0, left_.size(0) - k});
    return bias_ ? y + scaled + *bias_ : y + scaled;
  }

  int64_t out_features() const override { return left_.size(0); }

  std::vector<NamedTensor> parameters() const override {
    std::vector<NamedTensor> all = {{name_ + ".diagonal", diagonal_, Role::kFactor},
                                    {name_ + ".left", left_, Role::kFactor},
                                    {name_ + ".right", right_, Role::kFactor}};
    if (bias_) all.push_back({name_ + ".bias", *bias_});
    return all;
  }

  torch::Tensor weight() const override {
    torch::Tensor w = torch::matmul(left_, right_);
    w.diagonal() += diagonal_;
    return w;
  }

 private:
  std::string name_;
  torch::Tensor diagonal_;             // [min(m, n)]
  torch::Tensor left_;                 // [m, r]
  torch::Tensor right_;                // [r, n]
  std::optional<torch::Tensor> bias_;  // [m]
};

int64_t rank_of(const io::JsonRecord& form) { return form.integer("rank", 1, 1 << 20); }

model::ProjectionPtr load(std::span<const model::StoredLayer> layers,
                          const model::Weights& weights) {
  std::vector<model::ProjectionPtr> parts;
  for (const model::StoredLayer& layer : layers) {
    const auto& [name, m, n, biased] = layer.spec;
    const int64_t r = rank_of(form_of(layer, weights));
    parts.push_back(std::make_shared<DiagonalProjection>(
        name, weights.read(name + ".diagonal", {std::min(m, n)}),
        weights.read(name + ".left", {m, r}), weights.read(name + ".right", {r, n}),
        load_bias(layer.spec, weights)));
  }
  return model::concatenate(std::move(parts));
}

model::WeightDescription describe(const io::JsonRecord& form, const std::string& name,
                                  const model::TensorHeaders& tensors) {
  return {.shape = {tensors.at(name + ".left").shape[0], tensors.at(name + ".right").shape[1]},
          .label = fmt::format("rank {}", rank_of(form))};
}

}  // namespace

const model::LayerKind kDiagonalKind = {
    .name = "diagonal", .load = load, .describe = describe, .pack = model::pack_plainly};

model::StoredWeight diagonal_weight(const std::string& name, const torch::Tensor& w, int64_t rank) {
  const torch::Tensor diagonal = w.diagonal().clone();
  torch::Tensor rest = w.clone();
  rest.diagonal().zero_();
  const auto [u, s, v] = torch::linalg_svd(rest, false);
  return {{{"kind", kDiagonalKind.name}, {"rank", rank}},
          {{name + ".diagonal", diagonal},
           {name + ".left", u.narrow(1, 0, rank) * s.narrow(0, 0, rank)},
           {name + ".right", v.narrow(0, 0, rank).contiguous()}}};
}

}  // namespace schmidt::test
