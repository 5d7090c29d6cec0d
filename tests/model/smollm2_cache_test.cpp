// What types of the cache cost SmolLM2.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/generate.h"

#include "tests/support/support.h"

namespace schmidt::model {
namespace {

constexpr int64_t kRows = 2, kTokens = 128;

Model load(CacheType type) {
  return Model::load(io::Checkpoint::open(test::smollm2_path()), {.cache_type = type});
}

/// Log-probabilities after each token of ids [b, t], read one by one: [t, b, vocab].
torch::Tensor stepwise(const Model& model, const torch::Tensor& ids) {
  const at::NoGradGuard no_grad;
  KvCache cache = model.make_cache(ids.size(0), ids.size(1));
  const std::vector<int64_t> one(static_cast<size_t>(ids.size(0)), 1);
  std::vector<torch::Tensor> all;
  for (int64_t i = 0; i < ids.size(1); ++i) {
    const torch::Tensor logits = model.step(ids.narrow(1, i, 1).contiguous(), one, cache);
    all.push_back(at::log_softmax(logits, -1));
  }
  return torch::stack(all);
}

/// A text that the model itself samples, row by row [kRows, kTokens].
torch::Tensor sampled_text(const Model& model) {
  const std::vector<std::vector<int64_t>> prompts(kRows, {1});
  const torch::Tensor ids = torch::ones({kRows, kTokens}, torch::kInt64);
  const GenerateOptions options = {.max_new_tokens = kTokens - 1,
                                   .sampling = {.temperature = 1.0, .seed = 5},
                                   .eos_ids = std::vector<int64_t>{}};
  const std::vector<Generation> rows = generate(model, prompts, options);
  for (int64_t row = 0; row < kRows; ++row) {
    ids[row].narrow(0, 1, kTokens - 1).copy_(torch::tensor(rows[row].ids));
  }
  return ids;
}

TEST(SmolLm2Cache, FewBitsCostLittle) {
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  const Model plain = load(CacheType::kModel);
  const torch::Tensor ids = sampled_text(plain);
  const torch::Tensor truth = stepwise(plain, ids);
  for (const auto& [type, name, bound] :
       {std::tuple{CacheType::kBfloat16, "bfloat16", 1e-3}, {CacheType::kInt8, "int8", 3e-3}}) {
    const torch::Tensor given = stepwise(load(type), ids);
    const torch::Tensor divergence = (truth.exp() * (truth - given)).sum(-1);
    const double mean = divergence.mean().item<double>();
    const double same =
        truth.argmax(-1).eq(given.argmax(-1)).to(torch::kFloat64).mean().item<double>();
    RecordProperty(name, fmt::format("KL {:.6f} nats, largest {:.4f}, same likeliest token {:.4f}",
                                     mean, divergence.max().item<double>(), same));
    EXPECT_LT(mean, bound) << name;
    EXPECT_GT(same, 0.97) << name;
  }
}

}  // namespace
}  // namespace schmidt::model
