// Everything that computes with weights, away from the CPU: against the same on the CPU. On a GPU
// where there is one, and on every machine on a device whose memory the CPU may not touch.

#include <fstream>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "schmidt/eval/perplexity.h"
#include "schmidt/heal/heal.h"
#include "schmidt/model/generate.h"
#include "schmidt/pipeline/compress_model.h"
#include "schmidt/pipeline/profile_model.h"
#include "schmidt/pipeline/quantize_recipe.h"

#include "tests/device/guarded_device.h"
#include "tests/support/compressed_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

class DeviceTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "cuda" && !at::globalContext().hasCUDA()) GTEST_SKIP() << "absent: a GPU";
  }

  torch::Device device() const {
    return GetParam() == "cuda" ? torch::Device(torch::kCUDA) : test::guarded_device();
  }

  static torch::Tensor random_ids(int64_t rows, int64_t tokens) {
    return at::randint(264, {rows, tokens}, torch::kInt64);
  }

  /// Logits of both, and of a prompt and single tokens after it by the cache.
  void expect_same_logits(const io::Checkpoint& checkpoint, double tolerance) const {
    const at::NoGradGuard no_grad;
    const auto here = model::Model::load(checkpoint);
    const auto there = model::Model::load(checkpoint, {.device = device()});
    const torch::Tensor ids = random_ids(2, 9);
    const auto expect_equal = [&](const torch::Tensor& a, const torch::Tensor& b) {
      EXPECT_EQ(b.device().type(), device().type());
      EXPECT_LT((a - b.cpu()).abs().max().item<float>(), tolerance);
    };
    expect_equal(here.forward(ids), there.forward(ids));
    model::KvCache a = here.make_cache(2, 9), b = there.make_cache(2, 9);
    expect_equal(here.step(ids.narrow(1, 0, 6).contiguous(), {6, 6}, a),
                 there.step(ids.narrow(1, 0, 6).contiguous(), {6, 6}, b));
    for (int64_t i = 6; i < 9; ++i) {
      const torch::Tensor next = ids.narrow(1, i, 1).contiguous();
      expect_equal(here.step(next, {1, 1}, a), there.step(next, {1, 1}, b));
    }
  }

  io::Checkpoint compressed(const pipeline::CompressRecipe& recipe, const std::string& out,
                            const torch::Device& where) const {
    pipeline::compress_model(
        original, recipe,
        {.out = tmp / out, .load = {.device = where}, .sampling = {.device = where}}, {});
    return io::Checkpoint::open(tmp / out);
  }

  /// A model made there is as near to the original as the one made on the CPU.
  void expect_same_loss(const pipeline::CompressRecipe& recipe, const std::string& name) const {
    const torch::Tensor ids = random_ids(4, 24);
    const double here =
        test::divergence(original, compressed(recipe, name + "-here", torch::kCPU), ids);
    const double there =
        test::divergence(original, compressed(recipe, name + "-there", device()), ids);
    EXPECT_GT(here, 0.0) << name;
    EXPECT_NEAR(there, here, 0.05 * here) << name;
  }

  pipeline::CompressRecipe recipe(const std::string& method) const {
    pipeline::CompressRecipe recipe;
    recipe.method = method;
    recipe.selection.ignore = {"none"};
    recipe.share_inputs = true;
    recipe.shape.low_rank = true;
    recipe.fit.steps = 4;
    recipe.text = text(512);
    return recipe;
  }

  /// Of characters of one byte and of two, so that nearly all tokens occur.
  pipeline::CalibrationText text(int64_t tokens) const {
    std::ofstream file(tmp / "text.txt");
    for (int i = 0; i < 2000; ++i) {
      const int point = i * 7919 % 1900 + 0x20;
      if (point < 0x7f) {
        file.put(static_cast<char>(point));
      } else if (point >= 0xa0) {
        file.put(static_cast<char>(0xc0 | (point >> 6)));
        file.put(static_cast<char>(0x80 | (point & 0x3f)));
      }
    }
    return {.files = {tmp / "text.txt"}, .tokens = tokens, .context = 16, .seed = 5};
  }

  fs::path sentences() const {
    const fs::path path = tmp / "sentences.jsonl";
    std::ofstream file(path);
    for (int i = 0; i < 30; ++i) {
      const nlohmann::json line = {{"instruction", "Say number " + std::to_string(i)},
                                   {"output", "It is the number " + std::to_string(i * i) + "."}};
      file << line.dump() << "\n";
    }
    return path;
  }

  /// The held-out loss before and after a short healing of `student`.
  heal::HealResult healed(const io::Checkpoint& student, const heal::TrainedParts& parts,
                          const std::string& out, const torch::Device& where) const {
    heal::HealOptions options;
    options.data = {{sentences(), 1.0}};
    options.stream.context = 64;
    options.stream.held_out = 2;
    options.model_level.batch = 4;
    options.model_level.micro_batch = 2;
    options.model_level.schedule.peak = 1e-2;
    options.block_tokens = 2 * 4 * 64;
    options.tokens = 8 * 4 * 64;
    options.trained = parts;
    options.load = {.device = where};
    return heal::heal(student, original, tmp / out, options, {});
  }

  void expect_same_healing(const io::Checkpoint& student, const heal::TrainedParts& parts,
                           const std::string& name) const {
    const heal::HealResult here = healed(student, parts, name + "-here", torch::kCPU);
    const heal::HealResult there = healed(student, parts, name + "-there", device());
    EXPECT_LT(here.after.loss, here.before.loss) << name;
    EXPECT_NEAR(there.before.loss, here.before.loss, 1e-3) << name;
    EXPECT_NEAR(there.after.loss, here.after.loss, 0.02 * here.after.loss) << name;
  }

  test::TemporaryFolder tmp;
  io::Checkpoint original = [this] {
    at::set_num_threads(1);
    at::manual_seed(3);
    test::write_model(test::make_tiny_model(2, 1, 4), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    return io::Checkpoint::open(tmp / "m");
  }();
};

TEST_P(DeviceTest, NetworksGiveTheSameLogits) {
  const test::CompressedModel tiny = test::make_compressed_model();
  expect_same_logits(io::Checkpoint::open(test::write_model(tiny.compressed, tmp / "networks")),
                     1e-5);
}

TEST_P(DeviceTest, IntegersAndNf4GiveTheSameLogits) {
  for (const int bits : {2, 4, 8}) {
    for (const bool nf4 : {false, true}) {
      if (nf4 && bits != 4) continue;
      pipeline::QuantizeRecipe integers;
      integers.bits = bits;
      integers.group = nf4 ? 64 : 24;
      integers.nf4 = nf4;
      integers.method = "nearest";
      if (!nf4) integers.vocabulary_bits = 8;
      const std::string name = (nf4 ? "nf" : "int") + std::to_string(bits);
      expect_same_logits(
          compressed(pipeline::compress_recipe(integers, original), name, torch::kCPU), 2e-4);
    }
  }
}

TEST_P(DeviceTest, FamiliesGiveTheSameLogits) {
  const std::map<std::string, nlohmann::json> families = {
      {"qwen3", {{"sliding_window", 5}, {"use_sliding_window", true}, {"max_window_layers", 1}}},
      {"gemma2", {{"sliding_window", 4}}},
      {"mixtral", {{"num_local_experts", 4}, {"num_experts_per_tok", 2}}},
  };
  for (const auto& [family, changes] : families) {
    SCOPED_TRACE(family);
    expect_same_logits(io::Checkpoint::open(test::write_model(
                           test::make_tiny_model_of(family, changes), tmp / family)),
                       1e-4);
  }
}

TEST_P(DeviceTest, GeneratesTheSameText) {
  const auto here = model::Model::load(original);
  const auto there = model::Model::load(original, {.device = device()});
  const std::vector<std::vector<int64_t>> prompts = {{5, 17, 80}, {44, 9, 102, 33, 7}};
  const model::GenerateOptions options{.max_new_tokens = 12};
  const auto expected = model::generate(here, prompts, options);
  const auto found = model::generate(there, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(found[i].ids, expected[i].ids);
}

TEST_P(DeviceTest, EvaluatesToTheSameNumbers) {
  pipeline::CompressRecipe plain = recipe("tt-svd");
  plain.keep = 0.8;
  const io::Checkpoint small = compressed(plain, "small", torch::kCPU);
  std::vector<int64_t> ids(200);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i * 37 % 264);
  const auto evaluate = [&](const torch::Device& where) {
    const auto model = model::Model::load(small, {.device = where});
    const auto reference = model::Model::load(original, {.device = where});
    return eval::evaluate_text(model, &reference, ids, {.context = 40});
  };
  const eval::Evaluation here = evaluate(torch::kCPU), there = evaluate(device());
  EXPECT_NEAR(there.model.nll, here.model.nll, 1e-4);
  EXPECT_NEAR(there.divergence->mean, here.divergence->mean, 1e-4);
  EXPECT_EQ(there.divergence->top1_agreement, here.divergence->top1_agreement);
}

TEST_P(DeviceTest, CompressesByEveryMethodOfNetworks) {
  for (const compress::Method* method : compress::methods()) {
    if (method->integers || method->prunes) continue;
    pipeline::CompressRecipe of = recipe(std::string(method->name));
    of.keep = 0.92;
    of.selection.include = {"model.layers.1.self_attn.*"};
    of.shape.low_rank = !method->any_shape;
    of.fit.als.sweeps = of.fit.fit.rounds = 1;
    SCOPED_TRACE(method->name);
    expect_same_loss(of, std::string(method->name));
  }
}

TEST_P(DeviceTest, PrunesNeurons) {
  pipeline::CompressRecipe of = recipe("fisher");
  of.keep = 0.85;
  of.shape.low_rank = true;
  of.share_inputs = false;
  of.allocation = pipeline::Allocation::kSensitivity;
  of.mlp = pipeline::MlpForm::kNeurons;
  expect_same_loss(of, "neurons");
}

TEST_P(DeviceTest, RoundsByEveryMethodOfIntegers) {
  for (const compress::Method* method : compress::methods()) {
    if (!method->integers) continue;
    pipeline::QuantizeRecipe integers;
    integers.bits = 3;
    integers.group = 24;
    integers.method = method->name;
    integers.fit.steps = 4;
    integers.text = text(512);
    SCOPED_TRACE(method->name);
    expect_same_loss(pipeline::compress_recipe(integers, original), std::string(method->name));
  }
}

TEST_P(DeviceTest, SpendsBytesOnEveryForm) {
  pipeline::CompressRecipe of = recipe("learned");
  of.bytes = 95e3;
  of.forms.group = 24;
  of.forms.kinds = compress::FormKinds{true, true, true};
  of.share_inputs = false;
  of.shape.low_rank = false;
  of.dtype = torch::kBFloat16;
  expect_same_loss(of, "bytes");
}

TEST_P(DeviceTest, HealsNetworks) {
  pipeline::CompressRecipe half = recipe("tt-svd");
  half.keep = 0.6;
  expect_same_healing(compressed(half, "student", torch::kCPU), {}, "networks");
}

TEST_P(DeviceTest, HealsIntegersAndTheirCodes) {
  pipeline::QuantizeRecipe integers;
  integers.bits = 3;
  integers.group = 24;
  integers.method = "nearest";
  const auto student =
      compressed(pipeline::compress_recipe(integers, original), "student", torch::kCPU);
  expect_same_healing(student, {.zeros = true}, "scales");
  expect_same_healing(student, {.codes = true}, "codes");
}

TEST_P(DeviceTest, ProfilesToTheSameNumbers) {
  const auto measure = [&](const std::string& out, const torch::Device& where) {
    pipeline::ProfileRecipe recipe;
    recipe.measure.settings = {0.3, 0.6};
    recipe.measure.shape.low_rank = true;
    recipe.measure.method = "whitened";
    recipe.text = text(64);
    return pipeline::profile_model(
               original, recipe,
               {.out = tmp / out, .load = {.device = where}, .calibration = {.device = where}}, {})
        .profile;
  };
  const profile::Profile here = measure("here.json", torch::kCPU);
  const profile::Profile there = measure("there.json", device());
  ASSERT_EQ(here.layers.size(), there.layers.size());
  for (size_t l = 0; l < here.layers.size(); ++l) {
    for (size_t i = 0; i < here.layers[l].points.size(); ++i) {
      EXPECT_NEAR(there.layers[l].points[i].loss, here.layers[l].points[i].loss,
                  1e-4 + 0.02 * std::abs(here.layers[l].points[i].loss))
          << here.layers[l].network.layer.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceTest, testing::Values("guarded", "cuda"),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace schmidt
