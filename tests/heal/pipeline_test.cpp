#include "schmidt/heal/pipeline.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/heal/grid.h"
#include "schmidt/heal/loss.h"
#include "schmidt/heal/teacher_rows.h"

#include "tests/parallel/local_transport.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

constexpr int64_t kBlocks = 4;
constexpr LossWeights kWeights = {.cross_entropy = 0.4, .kl = 0.6};

using Gradients = std::map<std::string, torch::Tensor>;

/// Two models, and micro-batches of packed examples and padding, in one of which nothing
/// is to be learned.
class Pipeline : public ::testing::Test {
 protected:
  Pipeline() {
    test::write_model(test::make_tiny_model(kBlocks, 1), tmp / "student");
    test::write_model(test::make_tiny_model(kBlocks, 2), tmp / "teacher");
    for (int64_t m = 0; m < 5; ++m) {
      const torch::Tensor ids = torch::randint(264, {2, 10}, torch::kInt64);
      torch::Tensor segments = torch::zeros({2, 10}, torch::kInt64);
      segments.narrow(1, 4, 4) = 1;
      segments.narrow(1, 8, 2) = -1;
      torch::Tensor targets = torch::full({2, 10}, kNoTarget, torch::kInt64);
      if (m != 2) targets.narrow(1, 0, 7) = ids.narrow(1, 1, 7);
      batches.push_back({ids, segments, targets});
    }
  }

  model::Model part(const char* name, int64_t begin, int64_t end) const {
    return model::Model::load_part(io::Checkpoint::open(tmp / name), begin, end);
  }

  static torch::Tensor loss(const model::Model& student, const model::Model& teacher,
                            const Batch& batch, const FinalHidden& hidden) {
    const torch::Tensor counted = counted_positions(batch);
    if (counted.numel() == 0) return {};
    const auto at_counted = [&](const torch::Tensor& h) {
      return h.flatten(0, 1).index_select(0, counted);
    };
    return head_loss(student, at_counted(hidden.student),
                     batch.targets.flatten().index_select(0, counted),
                     Teacher{&teacher, at_counted(hidden.teacher), std::nullopt}, kWeights, 0.1)
        .loss;
  }

  struct Whole {
    double loss = 0;
    Gradients gradients;
  };

  Whole whole() const {
    const model::Model student = model::Model::load(io::Checkpoint::open(tmp / "student"));
    const model::Model teacher = model::Model::load(io::Checkpoint::open(tmp / "teacher"));
    for (const auto& [name, leaf, role] : student.parameters()) leaf.set_requires_grad(true);
    Whole result;
    for (const Batch& batch : batches) {
      const torch::Tensor l = loss(
          student, teacher, batch,
          {student.hidden(batch.ids, batch.segments), teacher.hidden(batch.ids, batch.segments)});
      if (!l.defined()) continue;
      l.backward();
      result.loss += l.item<double>();
    }
    for (const auto& [name, leaf, role] : student.parameters())
      result.gradients[name] = leaf.grad();
    return result;
  }

  void expect_gradients_of_the_whole(int64_t stages, bool checkpointing) const {
    const Whole expected = whole();
    test::as_ranks(stages, [&](std::unique_ptr<parallel::Transport> transport) {
      parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
      const Grid grid = make_grid(exchange.rank(), stages, stages);
      const auto s = static_cast<size_t>(grid.stage);
      const std::vector<int64_t> cuts = cut_blocks(std::vector<double>(kBlocks, 1.0), stages);
      const model::Model student = part("student", cuts[s], cuts[s + 1]);
      const model::Model teacher = part("teacher", cuts[s], cuts[s + 1]);
      for (const auto& [name, leaf, role] : student.parameters()) leaf.set_requires_grad(true);
      std::vector<size_t> order;
      double sum = 0;
      run_pipeline(
          {exchange, student, &teacher, checkpointing, [&](size_t m) { order.push_back(m); }},
          batches, [&](size_t m, const FinalHidden& hidden) {
            EXPECT_TRUE(grid.last());
            const torch::Tensor l = loss(student, teacher, batches[m], hidden);
            if (l.defined()) sum += l.item<double>();
            return l;
          });
      EXPECT_EQ(order, (std::vector<size_t>{0, 1, 2, 3, 4}));
      if (grid.last()) {
        EXPECT_NEAR(sum, expected.loss, 1e-5);
      }
      for (const auto& [name, leaf, role] : student.parameters()) {
        if (name != "model.embed_tokens.weight") {
          EXPECT_TRUE(torch::allclose(leaf.grad(), expected.gradients.at(name), 1e-4, 1e-6))
              << name;
          continue;
        }
        collect_tied_gradient(exchange, leaf.grad());
        const torch::Tensor all =
            grid.first() ? expected.gradients.at(name) : torch::zeros_like(leaf);
        EXPECT_TRUE(torch::allclose(leaf.grad(), all, 1e-4, 1e-6)) << name;

        const at::NoGradGuard no_grad;
        const torch::Tensor values = leaf.detach();
        values.add_(grid.first() ? 1 : 5);
        share_tied_values(exchange, values);
        const torch::Tensor original = part("student", 0, 0).parameters().front().tensor;
        EXPECT_TRUE(torch::equal(values, original + 1));
      }
    });
  }

  test::TemporaryFolder tmp;
  std::vector<Batch> batches;
};

TEST_F(Pipeline, OfOneStageIsTheWholeModel) { expect_gradients_of_the_whole(1, false); }
TEST_F(Pipeline, OfTwoStagesGivesTheSameGradients) { expect_gradients_of_the_whole(2, false); }
TEST_F(Pipeline, OfAStageForEachBlockGivesTheSameGradients) {
  expect_gradients_of_the_whole(4, false);
}
TEST_F(Pipeline, WithBlocksRunTwiceGivesTheSameGradients) {
  expect_gradients_of_the_whole(3, true);
}

TEST_F(Pipeline, EvaluatesWithoutGradients) {
  const double expected = whole().loss;
  test::as_ranks(2, [&](std::unique_ptr<parallel::Transport> transport) {
    const at::NoGradGuard no_grad;
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const model::Model student = part("student", exchange.rank() * 2, exchange.rank() * 2 + 2);
    const model::Model teacher = part("teacher", exchange.rank() * 2, exchange.rank() * 2 + 2);
    double sum = 0;
    run_pipeline({exchange, student, &teacher, false, {}}, batches,
                 [&](size_t m, const FinalHidden& hidden) {
                   const torch::Tensor l = loss(student, teacher, batches[m], hidden);
                   if (l.defined()) sum += l.item<double>();
                   return l;
                 });
    if (exchange.rank() == 1) {
      EXPECT_NEAR(sum, expected, 1e-5);
    }
  });
}

TEST_F(Pipeline, APartReadsItsOwnTensorsAlone) {
  const auto names = [&](int64_t begin, int64_t end) {
    std::set<std::string> found;
    for (const auto& [name, tensor, role] : part("student", begin, end).parameters())
      found.insert(name);
    return found;
  };
  EXPECT_TRUE(names(1, 3).contains("model.layers.2.mlp.down_proj.weight"));
  EXPECT_FALSE(names(1, 3).contains("model.layers.3.mlp.down_proj.weight"));
  EXPECT_FALSE(names(1, 3).contains("model.embed_tokens.weight"));
  EXPECT_TRUE(names(0, 1).contains("model.embed_tokens.weight"));
  EXPECT_FALSE(names(0, 1).contains("model.norm.weight"));
  EXPECT_TRUE(names(3, 4).contains("model.norm.weight"));
  const model::Model middle = part("student", 1, 3);
  EXPECT_EQ(middle.num_blocks(), 2);
  EXPECT_THROW(middle.embed(batches[0].ids), c10::ValueError);
  EXPECT_THROW(middle.logits(torch::zeros({1, 24})), c10::ValueError);
  EXPECT_THROW(part("student", 2, 5), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
