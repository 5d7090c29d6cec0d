// A layer kind and a method that the library does not know, from compression to healing.

#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/heal/healed_checkpoint.h"
#include "schmidt/heal/parameters.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/model.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/diagonal_projection.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

compress::FittedWeight by_diagonal(const torch::Tensor& w, const plan::LayerPlan& plan,
                                   const compress::LayerInputs&, const compress::MethodOptions&) {
  return {test::diagonal_weight(plan.layer.name, w, plan.max_bonds.front())};
}

compress::FittedWeight leave_alone(const torch::Tensor& w, const plan::LayerPlan& plan,
                                   const compress::LayerInputs&, const compress::MethodOptions&) {
  return {model::dense_weight(plan.layer.name, w)};
}

const compress::Method kDiagonal = {.name = "diagonal", .fit = by_diagonal};
const compress::Method kLeftAlone = {.name = "left-alone", .fit = leave_alone};

class OwnKind : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model::add_layer_kind(test::kDiagonalKind);
    compress::add_method(kDiagonal);
    compress::add_method(kLeftAlone);
  }

  /// Every second layer by one of the two methods.
  io::Checkpoint compressed() {
    const auto layers = plan::dense_layers(checkpoint);
    auto plan = plan::plan_bond(layers, {.low_rank = true, .fixed_gauge = false}, 4);
    for (size_t i = 0; i < plan.size(); ++i)
      plan[i].method = i % 2 == 0 ? "diagonal" : "left-alone";
    result = compress::compress(checkpoint, plan, tmp / "small", {});
    return io::Checkpoint::open(tmp / "small");
  }

  torch::Tensor logits(const io::Checkpoint& of) const {
    return model::Model::load(of).forward(ids);
  }

  test::TemporaryFolder tmp;
  test::TinyModel tiny = test::make_tiny_model();
  io::Checkpoint checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "m"));
  torch::Tensor ids = torch::arange(1, 9).view({1, 8});
  compress::CompressResult result;
};

TEST_F(OwnKind, RunsAsTheMatricesThatItStandsFor) {
  const io::Checkpoint small = compressed();
  test::TinyModel dense = tiny;
  for (const auto& [name, form] : small.config()["compression_config"]["layers"].items()) {
    torch::Tensor& w = dense.tensors[name + ".weight"];
    if (form["kind"] != "diagonal") continue;
    const torch::Tensor expected =
        torch::matmul(small.load(name + ".left"), small.load(name + ".right"));
    expected.diagonal() += small.load(name + ".diagonal");
    EXPECT_TRUE(torch::equal(w.diagonal(), small.load(name + ".diagonal")));
    w = expected;
  }
  const auto twin = io::Checkpoint::open(test::write_model(dense, tmp / "dense"));
  EXPECT_LT((logits(small) - logits(twin)).abs().max().item<double>(), 1e-4);
  EXPECT_GT((logits(small) - logits(checkpoint)).abs().max().item<double>(), 1e-3);
}

TEST_F(OwnKind, IsDescribedAndCounted) {
  const io::Checkpoint small = compressed();
  int64_t stored = 0;
  for (const auto& [name, info] : small.tensors()) stored += small.load(name).numel();
  EXPECT_EQ(result.summary.parameters, stored);
  EXPECT_EQ(result.summary.dense_parameters, package::summarize(checkpoint).dense_parameters);
  int64_t diagonals = 0;
  for (const package::ModuleSummary& module : result.summary.modules) {
    if (module.kind != "diagonal") continue;
    ++diagonals;
    EXPECT_EQ(module.label, "rank 4");
    EXPECT_EQ(module.shape, tiny.tensors[module.name + ".weight"].sizes().vec());
  }
  EXPECT_EQ(diagonals, static_cast<int64_t>(result.layers.size() + 1) / 2);
}

TEST_F(OwnKind, IsTrainedAsAFactorAndWrittenAgain) {
  const io::Checkpoint small = compressed();
  const model::Model student = model::Model::load(small);
  const heal::TrainedParts factors_alone{.factors = true, .dense = false, .norms = false};
  heal::Parameters parameters(student.parameters(), student.parameters(), factors_alone);
  for (const auto& piece : parameters.pieces()) {
    EXPECT_EQ(piece.name.find("weight"), std::string::npos) << piece.name;
    parameters.value_of(piece).add_(0.01);
  }
  parameters.write_to_model();
  heal::TrainedTensors::save(tmp / "trained.safetensors", parameters);
  const heal::TrainedTensors trained({tmp / "trained.safetensors"});
  std::filesystem::create_directory(tmp / "healed");
  heal::write_healed(small, trained, {{"verb", "heal"}}, tmp / "healed");
  const auto healed = io::Checkpoint::open(tmp / "healed");
  const torch::Tensor expected = student.forward(ids).detach();
  EXPECT_LT((logits(healed) - expected).abs().max().item<double>(), 1e-6);
}

}  // namespace
}  // namespace schmidt
