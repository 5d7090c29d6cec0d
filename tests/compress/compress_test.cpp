#include "schmidt/compress/compress.h"

#include <limits>
#include <set>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/plan/uniform.h"
#include "schmidt/tn/factorize.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

tn::Mpo stored_mpo(const io::Checkpoint& checkpoint, const LayerResult& r) {
  std::vector<torch::Tensor> cores;
  for (size_t k = 0; k < r.plan.shape.out_dims.size(); ++k) {
    cores.push_back(checkpoint.load(r.plan.layer.name + ".cores." + std::to_string(k)));
  }
  return tn::Mpo(cores);
}

const CompressOptions kForce = {.force = true};

class CompressTest : public ::testing::Test {
 protected:
  explicit CompressTest(test::TinyModel tiny = test::make_tiny_model())
      : model(std::move(tiny)),
        checkpoint(io::Checkpoint::open(test::write_model(model, tmp / "m"))) {}

  std::vector<plan::LayerPlan> plan(int64_t bond, plan::ShapeChoice shape = {}) const {
    shape.fixed_gauge = false;
    return plan::plan_bond(plan::select_layers(plan::dense_layers(checkpoint), {}), shape, bond);
  }

  test::TemporaryFolder tmp;
  test::TinyModel model;
  io::Checkpoint checkpoint;
};

TEST_F(CompressTest, OpensAgainBitForBit) {
  const CompressResult result = compress(checkpoint, plan(5), tmp / "out", {});
  const auto out = io::Checkpoint::open(tmp / "out");
  ASSERT_EQ(result.layers.size(), 12u);
  for (const LayerResult& r : result.layers) {
    const torch::Tensor w = model.tensors.at(r.plan.layer.name + ".weight");
    const auto expected = tn::factorize(w, {r.plan.shape, r.plan.max_bonds, 0.0});
    const tn::Mpo stored = stored_mpo(out, r);
    for (size_t k = 0; k < stored.cores().size(); ++k) {
      EXPECT_TRUE(torch::equal(stored.cores()[k], expected.mpo.cores()[k])) << r.plan.layer.name;
    }
    EXPECT_EQ(stored.bonds(), r.networks.front().bonds);
    const double measured = ((stored.to_dense() - w).norm() / w.norm()).item<double>();
    EXPECT_NEAR(measured, r.relative_error, 1e-5);
    EXPECT_FALSE(out.tensors().contains(r.plan.layer.name + ".weight"));
  }
  EXPECT_TRUE(torch::equal(out.load("model.layers.1.mlp.down_proj.weight"),
                           model.tensors.at("model.layers.1.mlp.down_proj.weight")));
  EXPECT_TRUE(torch::equal(out.load("model.embed_tokens.weight"),
                           model.tensors.at("model.embed_tokens.weight")));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
  EXPECT_FALSE(fs::exists(tmp / "out/layers"));
}

TEST_F(CompressTest, ReportsWhatItKept) {
  const CompressResult result = compress(checkpoint, plan(3), tmp / "out", {});
  int64_t expected = 0;
  for (const LayerResult& r : result.layers) {
    expected += tn::parameter_count(r.plan.shape, r.networks.front().bonds);
  }
  EXPECT_EQ(result.summary.tensorized_parameters, expected);
  const package::ModelSummary original = package::summarize(checkpoint);
  EXPECT_EQ(result.summary.dense_parameters, original.parameters);
  int64_t replaced = 0;
  for (const LayerResult& r : result.layers) replaced += r.plan.layer.numel();
  EXPECT_EQ(result.summary.parameters, original.parameters - replaced + expected);
  EXPECT_EQ(test::read_file(tmp / "out/README.md").find("---\nbase_model: "), 0u);
  EXPECT_NE(test::read_file(tmp / "out/README.md").find("trust_remote_code=True"),
            std::string::npos);
}

TEST_F(CompressTest, FullBondLosesNothing) {
  const CompressResult result = compress(checkpoint, plan(100000, {.sites = 3}), tmp / "out", {});
  const auto out = io::Checkpoint::open(tmp / "out");
  for (const LayerResult& r : result.layers) {
    const torch::Tensor w = model.tensors.at(r.plan.layer.name + ".weight");
    EXPECT_LT((stored_mpo(out, r).to_dense() - w).norm().item<double>(),
              1e-5 * w.norm().item<double>());
  }
}

TEST_F(CompressTest, StoresBondsWithoutTheirGauge) {
  const auto layers = plan::select_layers(plan::dense_layers(checkpoint), {});
  for (const plan::ShapeChoice& shape :
       {plan::ShapeChoice{.sites = 3}, plan::ShapeChoice{.low_rank = true}}) {
    CompressOptions options;
    options.force = true;
    const auto fixed =
        compress(checkpoint, plan::plan_bond(layers, shape, 4), tmp / "fixed", options);
    const auto full = compress(checkpoint, plan(4, shape), tmp / "full", options);
    int64_t squares = 0;
    for (const LayerResult& r : fixed.layers) {
      EXPECT_EQ(r.parameters, r.plan.parameters());
      for (const int64_t bond : r.networks.front().bonds) squares += bond * bond;
    }
    EXPECT_EQ(fixed.summary.parameters, full.summary.parameters - squares);
    const auto ids = torch::tensor({{5, 9, 200, 7, 31}});
    const auto a = model::Model::load(io::Checkpoint::open(tmp / "fixed")).forward(ids);
    const auto b = model::Model::load(io::Checkpoint::open(tmp / "full")).forward(ids);
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-4 * b.abs().max().item<double>());
  }
}

TEST_F(CompressTest, StackedLayersKeepTheirBiases) {
  model.config["attention_bias"] = true;
  for (const int64_t block : {0, 1}) {
    const std::string prefix = "model.layers." + std::to_string(block) + ".self_attn.";
    for (const auto& [name, size] : {std::pair{"q", 24}, {"k", 12}, {"v", 12}, {"o", 24}}) {
      model.tensors[prefix + name + "_proj.bias"] = torch::randn({size});
    }
  }
  checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "biased"));
  const auto layers = plan::share_inputs(plan::dense_layers(checkpoint));
  compress(checkpoint, plan::plan_bond(layers, {.low_rank = true}, 1000), tmp / "out", {});
  const auto out = io::Checkpoint::open(tmp / "out");
  EXPECT_TRUE(out.tensors().contains("model.layers.1.self_attn.qkv_proj.bias"));
  EXPECT_FALSE(out.tensors().contains("model.layers.1.self_attn.q_proj.bias"));
  EXPECT_TRUE(out.tensors().contains("model.layers.1.self_attn.o_proj.bias"));
  const auto ids = torch::tensor({{5, 9, 200, 7, 31}});
  const auto a = model::Model::load(out).forward(ids);
  const auto b = model::Model::load(checkpoint).forward(ids);
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-4);
}

TEST_F(CompressTest, StoresTheDtypeAskedFor) {
  CompressOptions options;
  options.dtype = torch::kBFloat16;
  compress(checkpoint, plan(4), tmp / "out", options);
  const auto out = io::Checkpoint::open(tmp / "out");
  EXPECT_EQ(out.config().at("torch_dtype"), "bfloat16");
  for (const auto& [name, info] : out.tensors()) {
    EXPECT_EQ(info.stored_as, "BF16") << name;
  }
}

// A child compresses and dies by SIGKILL when the progress has been called `calls`
// times. True if it lived to the end.
bool compress_until_killed(const io::Checkpoint& checkpoint,
                           const std::vector<plan::LayerPlan>& plan, const fs::path& out,
                           int calls) {
  const auto work = [&] { compress(checkpoint, plan, out, {}, test::kill_at(calls)); };
  return test::run_in_child(work) == test::ChildEnd::kDone;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

TEST_F(CompressTest, SurvivesKillAnywhereAndResumes) {
  at::set_num_threads(1);  // OpenMP's threads do not survive fork
  compress(checkpoint, plan(5), tmp / "whole", {});
  const std::string expected = test::read_file(tmp / "whole/model.safetensors");
  int kills = 0;
  for (int calls = 1;; calls += 3) {  // in every layer, then in the middle of the save
    const fs::path out = tmp / ("out" + std::to_string(calls));
    if (compress_until_killed(checkpoint, plan(5), out, calls)) break;
    ++kills;
    EXPECT_FALSE(fs::exists(out));
    const CompressResult result = compress(checkpoint, plan(5), out, {});
    EXPECT_EQ(result.resumed, std::min(calls, 12));
    EXPECT_EQ(test::read_file(out / "model.safetensors"), expected);
    EXPECT_EQ(test::read_file(out / "config.json"), test::read_file(tmp / "whole/config.json"));
    EXPECT_EQ(names_in(out), names_in(tmp / "whole"));  // nothing that the kill left half-written
  }
  EXPECT_GT(kills, 5);
}

TEST_F(CompressTest, RefusesToResumeOtherWork) {
  at::set_num_threads(1);
  ASSERT_FALSE(compress_until_killed(checkpoint, plan(5), tmp / "out", 4));
  EXPECT_THROW(compress(checkpoint, plan(6), tmp / "out", {}), c10::ValueError);
  const auto other =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 9), tmp / "other"));
  EXPECT_THROW(compress(other, plan(5), tmp / "out", {}), c10::ValueError);
  EXPECT_EQ(compress(checkpoint, plan(6), tmp / "out", kForce).resumed, 0);
}

TEST_F(CompressTest, TakesAnEmptyFolderOfLayersForNoWork) {
  fs::create_directories(tmp / "out.partial/layers");  // killed before its first file
  EXPECT_EQ(compress(checkpoint, plan(5), tmp / "out", {}).resumed, 0);
}

TEST_F(CompressTest, LeavesTheUnfinishedWorkOfAnotherVerbAlone) {
  fs::create_directories(tmp / "out.partial/run");
  test::write_file(tmp / "out.partial/run/state", "of heal");
  EXPECT_THROW(compress(checkpoint, plan(5), tmp / "out", {}), c10::ValueError);
  EXPECT_EQ(test::read_file(tmp / "out.partial/run/state"), "of heal");
  compress(checkpoint, plan(5), tmp / "out", kForce);
  EXPECT_FALSE(fs::exists(tmp / "out/run"));
  EXPECT_FALSE(fs::exists(tmp / "out/layers"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST_F(CompressTest, OverwritesACheckpointByForceAndNothingElse) {
  fs::create_directory(tmp / "out");
  test::write_file(tmp / "out/mine", "1");
  EXPECT_THROW(compress(checkpoint, plan(5), tmp / "out", {}), c10::ValueError);
  EXPECT_THROW(compress(checkpoint, plan(5), tmp / "out", kForce), c10::ValueError);
  EXPECT_EQ(test::read_file(tmp / "out/mine"), "1");
  fs::remove(tmp / "out/mine");
  compress(checkpoint, plan(5), tmp / "out", {});
  EXPECT_THROW(compress(checkpoint, plan(4), tmp / "out", {}), c10::ValueError);
  compress(checkpoint, plan(4), tmp / "out", kForce);
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST(CompressWeights, RefusesNanAndTakesZeroAndRankOne) {
  test::TemporaryFolder tmp;
  test::TinyModel model = test::make_tiny_model(1);
  const std::string q = "model.layers.0.self_attn.q_proj", k = "model.layers.0.self_attn.k_proj";
  model.tensors[q + ".weight"].zero_();
  model.tensors[k + ".weight"] =
      torch::outer(torch::linspace(1, 2, 12), torch::linspace(-1, 1, 24));
  auto checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "m"));
  const auto layers = plan::select_layers(plan::dense_layers(checkpoint), {{q, k}, {}});
  CompressOptions options;
  options.method.tolerance = 1e-4;
  const auto result =
      compress(checkpoint, plan::plan_bond(layers, {.low_rank = true}, 8), tmp / "out", options);
  for (const LayerResult& r : result.layers) {
    EXPECT_EQ(r.networks.front().bonds, std::vector<int64_t>{1}) << r.plan.layer.name;
    EXPECT_LT(r.relative_error, 1e-4);
  }

  model.tensors[q + ".weight"][3][4] = std::numeric_limits<float>::quiet_NaN();
  checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "nan"));
  try {
    compress(checkpoint, plan::plan_bond(layers, {}, 8), tmp / "out2", {});
    FAIL() << "expected an error";
  } catch (const FormatError& e) {
    EXPECT_NE(std::string(e.what()).find(q + ".weight: holds NaN"), std::string::npos) << e.what();
  }
  EXPECT_FALSE(fs::exists(tmp / "out2"));
}

}  // namespace
}  // namespace schmidt::compress
