// Tiny random models of every family against transformers' own results.

#include <fstream>

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"

#include "tests/support/support.h"

namespace schmidt::model {
namespace {

using test::oracle_dir;

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

class Parity : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder_ = oracle_dir() / "model" / "families" / GetParam();
  std::map<std::string, torch::Tensor> truth_ = io::load_safetensors(folder_ / "truth.safetensors");
  Model model_ = Model::load(io::Checkpoint::open(folder_));
};

TEST_P(Parity, Logits) {
  const at::NoGradGuard no_grad;
  EXPECT_LT(largest_difference(model_.forward(truth_["ids"]), truth_["logits"]), 1e-4);
}

TEST_P(Parity, LogitsFromTheConfigOfTransformers4) {
  const at::NoGradGuard no_grad;
  std::ifstream file(folder_ / "config_v4.json");
  const Model model =
      Model::load(nlohmann::json::parse(file), Weights(io::Checkpoint::open(folder_)));
  EXPECT_LT(largest_difference(model.forward(truth_["ids"]), truth_["logits"]), 1e-4);
}

TEST_P(Parity, LogitsOnThePathThatRecordsGradients) {
  for (const NamedTensor& parameter : model_.parameters()) parameter.tensor.set_requires_grad(true);
  EXPECT_LT(largest_difference(model_.forward(truth_["ids"]).detach(), truth_["logits"]), 1e-4);
}

// Rounding to 8 bits in other places: what counts is that both are as close to the
// float32 logits.
TEST_P(Parity, LogitsInBfloat16) {
  const at::NoGradGuard no_grad;
  const Model half = Model::load(io::Checkpoint::open(folder_), {.dtype = torch::kBFloat16});
  const torch::Tensor logits = half.forward(truth_["ids"]);
  EXPECT_EQ(logits.scalar_type(), torch::kBFloat16);
  const auto error = [&](const torch::Tensor& found) {
    return (found.to(torch::kFloat32) - truth_["logits"]).norm().item<double>();
  };
  EXPECT_LT(error(logits), 1.25 * error(truth_["logits_bfloat16"]));
}

TEST_P(Parity, GradientsOfAllParameters) {
  const std::vector<NamedTensor> parameters = model_.parameters();
  for (const NamedTensor& parameter : parameters) parameter.tensor.set_requires_grad(true);
  const torch::Tensor ids = truth_["ids"];
  const torch::Tensor logits = model_.forward(ids).narrow(1, 0, ids.size(1) - 1);
  const torch::Tensor loss =
      at::cross_entropy_loss(logits.flatten(0, 1), ids.narrow(1, 1, ids.size(1) - 1).flatten());
  EXPECT_NEAR(loss.item<double>(), truth_["loss"].item<double>(), 1e-5);
  loss.backward();

  size_t compared = 0;
  for (const auto& [name, tensor, role] : parameters) {
    ASSERT_TRUE(truth_.contains("grad." + name)) << name;
    const torch::Tensor& truth = truth_["grad." + name];
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_LT(largest_difference(tensor.grad(), truth),
              1e-4 * (1 + truth.abs().max().item<double>()))
        << name;
    ++compared;
  }
  const auto is_gradient = [](const auto& entry) { return entry.first.starts_with("grad."); };
  EXPECT_EQ(std::cmp_equal(compared, std::count_if(truth_.begin(), truth_.end(), is_gradient)),
            true);
}

TEST_P(Parity, UnequalLengthsInOneStep) {
  const torch::Tensor lengths = truth_["lengths"];
  const std::vector<int64_t> valid(lengths.data_ptr<int64_t>(),
                                   lengths.data_ptr<int64_t>() + lengths.numel());
  KvCache cache = model_.make_cache(static_cast<int64_t>(valid.size()), 30);
  const torch::Tensor logits = model_.step(truth_["padded"], valid, cache);
  EXPECT_LT(largest_difference(logits, truth_["last_logits"]), 1e-4);
  EXPECT_EQ(cache.lengths(), valid);
}

TEST_P(Parity, LogitsAtEveryLength) {
  const at::NoGradGuard no_grad;
  const torch::Tensor ids = truth_["ids"];
  for (int64_t length = 1; length <= ids.size(1); ++length) {
    const torch::Tensor first = ids.narrow(1, 0, length).contiguous();
    const torch::Tensor truth = truth_["prefix_logits"].select(1, length - 1);
    EXPECT_LT(largest_difference(model_.forward(first).select(1, length - 1), truth), 1e-4)
        << length;
    KvCache cache = model_.make_cache(2, ids.size(1));
    EXPECT_LT(largest_difference(model_.step(first, {length, length}, cache), truth), 1e-4)
        << length << " in one step";
  }
}

// Where the angles change as a sequence grows (dynamic scaling), cached keys keep theirs.
TEST_P(Parity, CachedStepsOfTransformers) {
  const torch::Tensor ids = truth_["ids"];
  const torch::Tensor truth = truth_["step_logits"];
  KvCache cache = model_.make_cache(2, ids.size(1));
  for (int64_t i = 0, done = 0; i < truth.size(1); ++i) {
    const int64_t count = i == 0 ? ids.size(1) - truth.size(1) + 1 : 1;
    const torch::Tensor logits =
        model_.step(ids.narrow(1, done, count).contiguous(), {count, count}, cache);
    done += count;
    EXPECT_LT(largest_difference(logits, truth.select(1, i)), 1e-4) << "after " << done;
  }
}

// Any way of cutting a sequence into steps gives the logits of the whole, except where the
// angles change as a sequence grows.
TEST_P(Parity, CachedStepsEqualTheWhole) {
  if (model_.config().rope.scaling == RopeScaling::kDynamic) {
    GTEST_SKIP() << "dynamic scaling: CachedStepsOfTransformers has its steps";
  }
  const torch::Tensor ids = truth_["ids"];  // [2, 24]
  const int64_t total = ids.size(1);
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>(24, 1), {10, 1, 1, 12}, {3, 3, 18}, {23, 1}, {1, 9, 2, 12}}) {
    KvCache cache = model_.make_cache(2, total);
    int64_t done = 0;
    for (const int64_t piece : pieces) {
      const torch::Tensor logits =
          model_.step(ids.narrow(1, done, piece).contiguous(), {piece, piece}, cache);
      done += piece;
      EXPECT_LT(largest_difference(logits, truth_["logits"].select(1, done - 1)), 1e-4)
          << "after " << done << " tokens in pieces of " << pieces.front();
    }
  }
}

// Rows that advance by different amounts, one resting.
TEST_P(Parity, RowsGrowIndependently) {
  const torch::Tensor ids = truth_["ids"];
  KvCache cache = model_.make_cache(2, 24);
  torch::Tensor both = ids.narrow(1, 0, 8).contiguous();
  model_.step(both, {8, 3}, cache);
  both = torch::zeros({2, 5}, torch::kInt64);
  both[1].copy_(ids[1].narrow(0, 3, 5));
  torch::Tensor logits = model_.step(both, {0, 5}, cache);
  EXPECT_EQ(cache.lengths(), (std::vector<int64_t>{8, 8}));
  EXPECT_LT(largest_difference(logits[1], truth_["prefix_logits"][1][7]), 1e-4);
  EXPECT_EQ(logits[0].abs().max().item<float>(), 0.0F);

  // Taking back tokens and going on differently is as if they had never been.
  cache.truncate(0, 2);
  both = torch::zeros({2, 2}, torch::kInt64);
  both[0].copy_(ids[0].narrow(0, 2, 2));
  logits = model_.step(both, {2, 0}, cache);
  EXPECT_LT(largest_difference(logits[0], truth_["prefix_logits"][0][3]), 1e-4);
}

// A text turns by the short factors as far as the original context reaches and by the long ones
// beyond it; of a cache the capacity says which.
TEST(LongRope, FactorsFollowTheLengthOfTheTextAndTheCapacityOfTheCache) {
  const auto folder = oracle_dir() / "model" / "families" / "phi3_longrope";
  auto truth = io::load_safetensors(folder / "truth.safetensors");
  const Model model = Model::load(io::Checkpoint::open(folder));
  const at::NoGradGuard no_grad;
  const torch::Tensor ids = truth["ids"];
  for (int64_t length = 1; length <= ids.size(1); ++length) {
    const torch::Tensor first = ids.narrow(1, 0, length).contiguous();
    const torch::Tensor expected = truth["prefix_logits"].select(1, length - 1);
    EXPECT_LT(largest_difference(model.forward(first).select(1, length - 1), expected), 1e-4)
        << length;
    KvCache cache = model.make_cache(2, length);
    EXPECT_LT(largest_difference(model.step(first, {length, length}, cache), expected), 1e-4)
        << length << " in one step";
  }
  KvCache cache = model.make_cache(2, ids.size(1));
  for (int64_t done = 0; done < ids.size(1); ++done) {
    const torch::Tensor logits = model.step(ids.narrow(1, done, 1).contiguous(), {1, 1}, cache);
    EXPECT_LT(largest_difference(logits, truth["logits"].select(1, done)), 1e-4) << done;
  }
  KvCache small = model.make_cache(2, 10);
  small.extend(16);
  model.step(ids.narrow(1, 0, 4).contiguous(), {4, 4}, small);
  EXPECT_THROW(small.extend(17), c10::ValueError);
  small.reset();
  small.extend(17);
}

INSTANTIATE_TEST_SUITE_P(Families, Parity,
                         testing::Values("llama2", "llama3", "llama_linear", "llama_yarn",
                                         "llama_dynamic", "llama_bias", "smollm2", "mistral",
                                         "qwen2", "qwen2_window", "qwen2_yarn", "qwen3",
                                         "qwen3_yarn", "granite", "olmo2", "phi3", "phi3_partial",
                                         "phi3_long", "gemma2", "gemma3", "mixtral", "qwen2_moe",
                                         "qwen3_moe"));

}  // namespace
}  // namespace schmidt::model
