#include "schmidt/heal/team.h"

#include <fstream>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/heal/heal.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/plan/uniform.h"

#include "tests/heal/local_team.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

TEST(Team, AgreesOnSums) {
  test::as_team(3, 1, [](Team& team) {
    EXPECT_EQ(sum_over(team.all, {1.0, static_cast<double>(team.all.rank())}),
              (std::vector<double>{3.0, 3.0}));
  });
}

/// A tiny model whose every layer is cut in half, and sentences to heal it on.
class TeamHeals : public testing::Test {
 protected:
  TeamHeals() {
    at::set_num_threads(1);
    test::write_model(test::make_tiny_model(3), tmp / "teacher");
    test::write_byte_tokenizer(tmp / "teacher");
    const auto original = io::Checkpoint::open(tmp / "teacher");
    compress::compress(original,
                       plan::plan_bond(plan::dense_layers(original), {.low_rank = true}, 8),
                       tmp / "student", {});
    std::ofstream file(tmp / "text.jsonl");
    for (int i = 0; i < 20; ++i) {
      const nlohmann::json line = {{"instruction", "Say " + std::to_string(i)},
                                   {"output", "It is " + std::to_string(i * i) + "."}};
      file << line.dump() << "\n";
    }
  }

  HealOptions options() const {
    HealOptions o;
    o.data = {{tmp / "text.jsonl", 1.0}};
    o.stream.context = 64;
    o.stream.held_out = 3;
    o.model_level.batch = 5;  // not a multiple of anything
    o.model_level.micro_batch = 1;
    o.model_level.schedule.peak = 5e-3;
    o.model_level.evaluate_every = 4;
    o.model_level.clip = 0.5;
    o.model_level.adamw.weight_decay = 0.1;
    o.tokens = int64_t{8} * 5 * 64;
    return o;
  }

  void heal_as(int64_t ranks, int64_t stages, const HealOptions& o, const std::string& out,
               const std::function<bool(const Team&)>& interrupted = {}) {
    test::as_team(ranks, stages, [&](Team& team) {
      const HealResult result =
          heal(io::Checkpoint::open(tmp / "student"), io::Checkpoint::open(tmp / "teacher"),
               tmp / out, o, {{}, [&] { return interrupted && interrupted(team); }, {}}, team);
      EXPECT_EQ(result.summary.has_value(), team.leads() && result.ended != Ended::kInterrupted);
    });
  }

  /// The numbers of the run's log, a row for each line.
  std::vector<std::vector<double>> curve(const std::string& out) const {
    std::vector<std::vector<double>> rows;
    for (const nlohmann::json& line : read_run_log(tmp / out / "heal.jsonl")) {
      std::vector<double> row;
      for (const char* key : {"loss", "cross_entropy", "kl", "gradient_norm", "held_out_loss",
                              "error_before", "error_after"}) {
        if (line.contains(key)) row.push_back(line[key]);
      }
      if (!row.empty()) rows.push_back(row);
    }
    return rows;
  }

  void expect_same(const std::string& one, const std::string& other) const {
    const auto a = curve(one), b = curve(other);
    ASSERT_EQ(a.size(), b.size());
    EXPECT_GT(a.size(), 10u);
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].size(), b[i].size());
      for (size_t k = 0; k < a[i].size(); ++k) {
        EXPECT_NEAR(a[i][k], b[i][k], 2e-4 * std::abs(a[i][k])) << "line " << i << ", value " << k;
      }
    }
    const auto p = io::load_safetensors(tmp / one / "model.safetensors");
    const auto q = io::load_safetensors(tmp / other / "model.safetensors");
    ASSERT_EQ(p.size(), q.size());
    for (const auto& [name, tensor] : p) {
      EXPECT_TRUE(torch::allclose(tensor, q.at(name), 1e-3, 1e-4)) << name;
    }
  }

  test::TemporaryFolder tmp;
};

TEST_F(TeamHeals, OnTheCurveOfOneRank) {
  heal_as(1, 1, options(), "one");
  heal_as(2, 1, options(), "two");
  expect_same("one", "two");
  heal_as(4, 1, options(), "four");
  expect_same("one", "four");
}

TEST_F(TeamHeals, InAPipelineOnTheCurveOfOneRank) {
  HealOptions o = options();
  o.trained.embedding = true;  // tied: at the first stage and at the last
  heal_as(1, 1, o, "one");
  heal_as(3, 3, o, "three stages");
  expect_same("one", "three stages");
  heal_as(4, 2, o, "two by two");
  expect_same("one", "two by two");
}

TEST_F(TeamHeals, AnEmbeddingOfFewBitsAtBothEnds) {
  const auto student = io::Checkpoint::open(tmp / "student");
  const auto config = model::parse_config(student.config(), student.path());
  std::vector<plan::LayerPlan> plan;
  for (const plan::Layer& layer : plan::dense_vocabulary(config)) {
    plan.push_back({.layer = layer, .method = "nearest", .integers = quant::IntegerFormat{4, 8}});
  }
  ASSERT_EQ(plan.size(), 1u);  // tied
  compress::compress(student, plan, tmp / "few bits", {});
  std::filesystem::remove_all(tmp / "student");
  std::filesystem::rename(tmp / "few bits", tmp / "student");
  HealOptions o = options();
  o.trained.zeros = true;
  o.model_level.schedule.peak = 1e-3;  // no zero point comes near the next
  heal_as(1, 1, o, "one");
  heal_as(2, 2, o, "two stages");
  expect_same("one", "two stages");
  const std::string scale = "model.embed_tokens.weight_scale";
  EXPECT_FALSE(torch::equal(io::load_safetensors(tmp / "one" / "model.safetensors").at(scale),
                            io::load_safetensors(tmp / "student" / "model.safetensors").at(scale)));
}

TEST_F(TeamHeals, WithStoredTeacher) {
  HealOptions o = options();
  o.top_k = 8;
  heal_as(1, 1, o, "one");
  heal_as(2, 1, o, "two");
  expect_same("one", "two");
  heal_as(4, 2, o, "two by two");
  expect_same("one", "two by two");
}

TEST_F(TeamHeals, ItsBlocksOnTheCurveOfOneRank) {
  HealOptions o = options();
  o.block_tokens = int64_t{4} * 5 * 64;
  o.tokens += o.block_tokens;
  o.block_level.learning_rate = 2e-3;
  heal_as(1, 1, o, "one");
  heal_as(2, 1, o, "two");
  expect_same("one", "two");
  heal_as(6, 3, o, "more ranks than rows");
  expect_same("one", "more ranks than rows");

  // Every rank goes on from the block and the step that the leader has saved: one question
  // before each block, and one before each of its four steps.
  HealOptions resumed = o;
  resumed.resume = true;
  int64_t asked = 0;
  heal_as(4, 2, o, "cut", [&](const Team& team) { return team.all.rank() == 3 && ++asked == 9; });
  const auto blocks = tmp / "cut.partial" / "run" / "blocks";
  EXPECT_TRUE(std::filesystem::exists(blocks / "block-0.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(blocks / "block-1" / "state-2"));
  heal_as(4, 2, resumed, "cut");
  expect_same("one", "cut");
}

TEST_F(TeamHeals, GoOnFromTheLastStateThatAllStagesHave) {
  namespace fs = std::filesystem;
  const HealOptions o = options();
  heal_as(3, 3, o, "whole");
  HealOptions resumed = o;
  resumed.resume = true;
  const auto stop_after = [&](int64_t steps, const HealOptions& how) {
    int64_t asked = 0;
    heal_as(3, 3, how, "cut",
            [&](const Team& team) { return team.leads() && ++asked == steps + 1; });
  };
  const auto state = [&](int64_t stage, int64_t step) {
    return tmp / "cut.partial" / "run" / ("stage-" + std::to_string(stage)) /
           ("state-" + std::to_string(step));
  };
  // As a kill leaves it that comes while stage 1 still saves its fifth step.
  stop_after(3, o);
  for (int64_t stage = 0; stage < 3; ++stage) {
    fs::copy(state(stage, 3), tmp / ("state" + std::to_string(stage)), fs::copy_options::recursive);
  }
  stop_after(2, resumed);
  for (int64_t stage = 0; stage < 3; ++stage) {
    ASSERT_TRUE(fs::exists(state(stage, 5)));
    EXPECT_FALSE(fs::exists(state(stage, 3)));
    fs::copy(tmp / ("state" + std::to_string(stage)), state(stage, 3), fs::copy_options::recursive);
  }
  fs::remove_all(state(1, 5));
  heal_as(3, 3, resumed, "cut");
  EXPECT_EQ(test::read_file(tmp / "whole" / "model.safetensors"),
            test::read_file(tmp / "cut" / "model.safetensors"));
  EXPECT_EQ(curve("whole"), curve("cut"));
}

TEST_F(TeamHeals, StagesAndBlocksThatHaveNothingToTrain) {
  const auto original = io::Checkpoint::open(tmp / "teacher");
  std::vector<plan::Layer> layers = plan::dense_layers(original);
  std::erase_if(layers, [](const plan::Layer& layer) { return layer.block != 1; });
  std::filesystem::remove_all(tmp / "student");
  compress::compress(original, plan::plan_bond(layers, {.low_rank = true}, 8), tmp / "student", {});
  HealOptions o = options();
  o.trained = {.factors = true, .dense = false, .norms = false};
  o.block_tokens = int64_t{4} * 5 * 64;
  o.tokens += o.block_tokens;
  heal_as(1, 1, o, "one");
  heal_as(3, 3, o, "three stages");
  expect_same("one", "three stages");
  heal_as(6, 3, o, "two pipelines");
  expect_same("one", "two pipelines");
  int64_t blocks = 0;
  for (const auto& line : read_run_log(tmp / "one" / "heal.jsonl")) blocks += line.count("block");
  EXPECT_EQ(blocks, 1);
}

TEST_F(TeamHeals, EndAllRanksAfterThreeStepsWithoutAFiniteLoss) {
  auto broken = test::make_tiny_model(3);
  for (auto& [name, tensor] : broken.tensors) {
    if (name == "model.norm.weight") tensor.fill_(3e38);  // finite; its logits are not
  }
  std::filesystem::remove_all(tmp / "student");
  test::write_model(broken, tmp / "student");
  test::write_byte_tokenizer(tmp / "student");
  for (const int64_t stages : {1, 3}) {
    const std::string out = "out" + std::to_string(stages);
    EXPECT_THROW(heal_as(3, stages, options(), out), c10::ValueError);
    const auto run = tmp / (out + ".partial") / "run";
    EXPECT_FALSE(std::filesystem::exists((stages == 1 ? run : run / "stage-2") / "state-3"));
    EXPECT_FALSE(std::filesystem::exists(tmp / out));
  }
}

TEST_F(TeamHeals, TheSameBitsFromRunToRunAndResumed) {
  HealOptions o = options();
  o.trained.embedding = true;
  for (const int64_t stages : {1, 2}) {
    const std::string name = std::to_string(stages);
    heal_as(4, stages, o, "whole" + name);
    int64_t asked = 0;
    const auto one_rank_wants_to_stop = [&](const Team& team) {
      return team.all.rank() == 2 && ++asked == 4;
    };
    heal_as(4, stages, o, "cut" + name, one_rank_wants_to_stop);
    EXPECT_FALSE(std::filesystem::exists(tmp / ("cut" + name)));
    HealOptions resumed = o;
    resumed.resume = true;
    heal_as(4, stages, resumed, "cut" + name);
    EXPECT_EQ(test::read_file(tmp / ("whole" + name) / "model.safetensors"),
              test::read_file(tmp / ("cut" + name) / "model.safetensors"));
    EXPECT_EQ(curve("whole" + name), curve("cut" + name));
  }
}

}  // namespace
}  // namespace schmidt::heal
