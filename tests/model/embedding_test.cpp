// The embedding and the output layer in any form, tied and not.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/model/model.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/tn/factorize.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

Model load(const test::TinyModel& tiny) {
  return Model::load(tiny.config, Weights(tiny.tensors, "tiny"));
}

/// `layer` of the model as an MPO of full bonds.
test::TinyModel with_mpo(test::TinyModel tiny, const std::string& layer) {
  const torch::Tensor w = tiny.tensors.at(layer + ".weight");
  const auto mpo = tn::factorize(w, {tn::low_rank_shape(w.size(0), w.size(1)), {}}).mpo;
  const StoredWeight stored = mpo_weight(layer, mpo);
  tiny.tensors.erase(layer + ".weight");
  for (const NamedTensor& t : stored.tensors) tiny.tensors[t.name] = t.tensor;
  tiny.config["compression_config"]["version"] = 1;
  tiny.config["compression_config"]["layers"][layer] = stored.form;
  return tiny;
}

TEST(Embedding, TiedInAnyFormServesBothEnds) {
  const test::TinyModel tiny = test::make_tiny_model();
  ASSERT_TRUE(tiny.config.value("tie_word_embeddings", false));
  const Model dense = load(tiny), mpo = load(with_mpo(tiny, "model.embed_tokens"));
  const torch::Tensor ids = torch::arange(3, 13).view({2, 5});
  EXPECT_LT((dense.embed(ids) - mpo.embed(ids)).abs().max().item<double>(), 1e-5);
  EXPECT_LT((dense.forward(ids) - mpo.forward(ids)).abs().max().item<double>(), 1e-4);
  for (const NamedTensor& t : mpo.output_parameters()) {
    EXPECT_EQ(t.role, Role::kFactor);
    EXPECT_TRUE(t.name.starts_with("model.embed_tokens.cores.")) << t.name;
  }
}

TEST(Embedding, IsTrainedAsOneLeafAtBothEnds) {
  const Model model = load(test::make_tiny_model());
  const NamedTensor embedding = model.output_parameters().at(0);
  embedding.tensor.set_requires_grad(true);
  const torch::Tensor ids = torch::arange(3, 13).view({2, 5});
  model.forward(ids).square().sum().backward();
  const torch::Tensor gradient = embedding.tensor.grad();
  ASSERT_TRUE(gradient.defined());
  // Rows of tokens that were not read have a gradient of the output alone.
  EXPECT_GT(gradient[200].abs().max().item<double>(), 0.0);
  const double step = 1e-3;
  const auto loss = [&](double by) {
    const at::NoGradGuard no_grad;
    embedding.tensor[5][0] += by;
    const double value = model.forward(ids).square().sum(torch::kFloat64).item<double>();
    embedding.tensor[5][0] -= by;
    return value;
  };
  const double slope = (loss(step) - loss(-step)) / (2 * step);
  EXPECT_NEAR(gradient[5][0].item<double>(), slope, 0.02 * std::abs(slope) + 1e-2);
}

}  // namespace
}  // namespace schmidt::model
