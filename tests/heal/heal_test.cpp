#include "schmidt/heal/heal.h"

#include <fstream>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/compress/compress.h"
#include "schmidt/heal/healed_checkpoint.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

// Twenty sentences as conversations, and a tiny model whose every layer is cut in half.
class HealTest : public testing::Test {
 protected:
  HealTest() {
    at::set_num_threads(1);  // OpenMP's threads do not survive fork
    test::write_model(test::make_tiny_model(2), tmp / "teacher");
    test::write_byte_tokenizer(tmp / "teacher");
    const auto original = io::Checkpoint::open(tmp / "teacher");
    compress::compress(original,
                       plan::plan_bond(plan::dense_layers(original), {.low_rank = true}, 8),
                       tmp / "student", {});
    std::ofstream file(data());
    for (int i = 0; i < 20; ++i) {
      const nlohmann::json line = {
          {"instruction", "Say number " + std::to_string(i)},
          {"output", "It is the number " + std::to_string(i * i) + ", of course."}};
      file << line.dump() << "\n";
    }
  }

  fs::path data() const { return tmp / "sentences.jsonl"; }

  HealOptions options(int64_t steps) const {
    HealOptions o;
    o.data = {{data(), 1.0}};
    o.stream.context = 96;
    o.model_level.batch = 4;
    o.model_level.micro_batch = 2;
    o.model_level.schedule.peak = 1e-2;
    o.model_level.evaluate_every = 5;
    o.tokens = steps * 4 * 96;
    return o;
  }

  /// By the teacher's distribution alone, at that peak of the rate.
  HealOptions towards_teacher(double peak) const {
    HealOptions o = options(60);
    o.stream.held_out = 2;
    o.model_level.weights = {0.0, 1.0};
    o.model_level.schedule.peak = peak;
    return o;
  }

  HealResult run(const std::string& out, const HealOptions& o,
                 const std::function<bool()>& interrupted = {}) const {
    return heal(io::Checkpoint::open(tmp / "student"), io::Checkpoint::open(tmp / "teacher"),
                tmp / out, o, {{}, interrupted, {}});
  }

  std::vector<nlohmann::json> log(const std::string& out) const {
    return read_run_log(tmp / out / "heal.jsonl");
  }

  // The curve without what a clock or the machine has to say.
  std::string curve(const std::string& out) const {
    std::string text;
    for (nlohmann::json line : log(out)) {
      for (const char* key : {"seconds", "tokens_per_second", "memory"}) line.erase(key);
      text += line.dump() + "\n";
    }
    return text;
  }

  std::string weights(const std::string& out) const {
    return test::read_file(tmp / out / "model.safetensors");
  }

  // A child runs `work` and dies by SIGKILL after some milliseconds. False if it was done.
  static bool killed_after(int after, const std::function<void()>& work) {
    const test::ChildEnd end = test::run_in_child(work, after);
    EXPECT_NE(end, test::ChildEnd::kFailed);
    return end == test::ChildEnd::kKilled;
  }

  test::TemporaryFolder tmp;
};

TEST_F(HealTest, LearnsTwentySentencesByHeart) {
  HealOptions o = options(150);
  o.model_level.weights = {1.0, 0.0};
  o.model_level.schedule.peak = 2e-2;
  o.trained.embedding = true;
  run("out", o);
  double first = 0.0, last = 0.0;
  for (const auto& line : log("out")) {
    if (!line.contains("loss")) continue;
    if (first == 0.0) first = line["loss"];
    last = line["loss"];
  }
  EXPECT_GT(first, 4.0);
  EXPECT_LT(last, 0.3);
}

/// All layers of blocks in 2 bits.
io::Checkpoint in_two_bits(const io::Checkpoint& original, const fs::path& out) {
  std::vector<plan::LayerPlan> plan;
  for (const plan::Layer& layer : plan::dense_layers(original)) {
    plan.push_back({.layer = layer, .method = "nearest"});
    plan.back().integers = {2, 12, false};
  }
  compress::compress(original, plan, out, {});
  return io::Checkpoint::open(out);
}

TEST_F(HealTest, TrainsCodesThroughTheirRounding) {
  const auto original = io::Checkpoint::open(tmp / "teacher");
  const io::Checkpoint student = in_two_bits(original, tmp / "codes");
  HealOptions o = towards_teacher(5e-4);
  const HealResult frozen = heal(student, original, tmp / "frozen", o, {});
  o.trained.codes = true;
  const HealResult result = heal(student, original, tmp / "healed", o, {});
  EXPECT_LT(result.after.kl, 0.8 * frozen.after.kl);

  const auto before = io::load_safetensors(tmp / "codes/model.safetensors");
  const auto after = io::load_safetensors(tmp / "healed/model.safetensors");
  ASSERT_EQ(after.size(), before.size());
  int changed = 0;
  for (const auto& [name, tensor] : before) {
    EXPECT_EQ(after.at(name).sizes(), tensor.sizes()) << name;
    if (!name.ends_with(".weight_packed")) continue;
    changed += torch::equal(after.at(name), tensor) ? 0 : 1;
  }
  EXPECT_GT(changed, 10);
  // What was written is what was measured.
  o.tokens = 4 * 96;
  o.model_level.schedule.peak = 1e-12;
  const HealResult again =
      heal(io::Checkpoint::open(tmp / "healed"), original, tmp / "again", o, {});
  EXPECT_NEAR(again.before.kl, result.after.kl, 0.02 * result.after.kl);
}

// Symmetric integers have no zero points, and dense weights no codes.
TEST_F(HealTest, RefusesWhatTheModelHasNothingOf) {
  const auto original = io::Checkpoint::open(tmp / "teacher");
  std::vector<plan::LayerPlan> plan;
  for (const plan::Layer& layer : plan::dense_layers(original)) {
    plan.push_back({.layer = layer, .method = "nearest"});
    plan.back().integers = {4, 12, true};
  }
  compress::compress(original, plan, tmp / "symmetric", {});
  HealOptions o = towards_teacher(1e-3);
  const auto refusal = [&](const fs::path& student, const TrainedParts& parts) {
    o.trained = parts;
    try {
      heal(io::Checkpoint::open(student), original, tmp / "healed", o, {});
    } catch (const c10::ValueError& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  const TrainedParts zeros{.factors = false, .dense = false, .norms = false, .zeros = true};
  const TrainedParts codes{.factors = false, .dense = false, .norms = false, .codes = true};
  EXPECT_NE(refusal(tmp / "symmetric", zeros).find("without any of it"), std::string::npos);
  EXPECT_NE(refusal(tmp / "teacher", codes).find("without any of it"), std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "healed"));
}

// Scales and norms are trained, codes stay.
TEST_F(HealTest, TrainsOverFrozenCodes) {
  const auto original = io::Checkpoint::open(tmp / "teacher");
  const io::Checkpoint student = in_two_bits(original, tmp / "codes");
  HealOptions o = towards_teacher(2e-3);
  const HealResult result = heal(student, original, tmp / "healed", o, {});
  EXPECT_LT(result.after.kl, 0.7 * result.before.kl);

  const auto before = io::load_safetensors(tmp / "codes/model.safetensors");
  const auto after = io::load_safetensors(tmp / "healed/model.safetensors");
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, tensor] : before) {
    const bool scale = name.ends_with(".weight_scale");
    EXPECT_EQ(after.at(name).scalar_type(), tensor.scalar_type()) << name;
    if (name.ends_with(".weight_packed") || name.ends_with(".weight_zero_point")) {
      EXPECT_TRUE(torch::equal(after.at(name), tensor)) << name;
    }
    if (scale) {
      EXPECT_FALSE(torch::equal(after.at(name), tensor)) << name;
    }
  }
}

// Zero points alone are trained: all else stays.
TEST_F(HealTest, TrainsZeroPointsOverFrozenCodes) {
  const auto original = io::Checkpoint::open(tmp / "teacher");
  const io::Checkpoint student = in_two_bits(original, tmp / "codes");
  HealOptions o = towards_teacher(5e-3);
  o.trained = {.factors = false, .dense = false, .norms = false, .zeros = true};
  const HealResult result = heal(student, original, tmp / "healed", o, {});
  EXPECT_LT(result.after.kl, 0.7 * result.before.kl);

  const auto before = io::load_safetensors(tmp / "codes/model.safetensors");
  const auto after = io::load_safetensors(tmp / "healed/model.safetensors");
  ASSERT_EQ(after.size(), before.size());
  int changed = 0;
  for (const auto& [name, tensor] : before) {
    if (name.ends_with(".weight_zero_point")) {
      changed += torch::equal(after.at(name), tensor) ? 0 : 1;
    } else {
      EXPECT_TRUE(torch::equal(after.at(name), tensor)) << name;
    }
  }
  EXPECT_GT(changed, 5);
}

TEST_F(HealTest, BringsTheStudentToItsTeacher) {
  HealOptions o = towards_teacher(1e-2);
  const HealResult result = run("out", o);
  EXPECT_LT(result.after.kl, 0.5 * result.before.kl);
  // What was written is what was measured: bonds without their gauge change nothing.
  const auto healed = io::Checkpoint::open(tmp / "out");
  EXPECT_EQ(healed.config()["compression_config"]["made_by"].size(), 2u);
  o.tokens = 4 * 96;
  o.force = true;
  o.model_level.schedule.peak = 1e-12;
  const HealResult again =
      heal(healed, io::Checkpoint::open(tmp / "teacher"), tmp / "again", o, {});
  EXPECT_NEAR(again.before.kl, result.after.kl, 1e-4 * result.after.kl + 1e-6);
  EXPECT_EQ(result.summary->parameters,
            package::summarize(io::Checkpoint::open(tmp / "student")).parameters);
}

TEST_F(HealTest, ResumedRunsAreTheUninterruptedOne) {
  HealOptions o = options(12);
  o.stream.held_out = 2;
  o.block_tokens = 2 * 4 * 96;
  o.tokens += o.block_tokens;
  EXPECT_EQ(run("whole", o).ended, Ended::kDone);

  o.resume = true;
  for (const int after : {1, 2, 4, 9}) {  // asked before each block and each step
    int asked = 0;
    EXPECT_EQ(run("out", o, [&] { return ++asked > after; }).ended, Ended::kInterrupted);
    EXPECT_FALSE(fs::exists(tmp / "out"));
  }
  EXPECT_EQ(run("out", o).ended, Ended::kDone);
  EXPECT_EQ(weights("out"), weights("whole"));
  EXPECT_EQ(curve("out"), curve("whole"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial"));
}

TEST_F(HealTest, AKillAtAnyTimeLeavesAStateToGoOnFrom) {
  HealOptions o = options(30);
  o.stream.held_out = 2;
  o.block_tokens = 4 * 4 * 96;
  o.tokens += o.block_tokens;
  o.save_minutes = 0.0;  // after every step: kills meet saves
  for (const int64_t top_k : {0, 8}) {
    o.top_k = top_k;
    o.resume = false;
    const std::string out = "out" + std::to_string(top_k), whole = "whole" + std::to_string(top_k);
    run(whole, o);
    o.resume = true;
    int kills = 0;
    for (int after = 20; after < 300 && !fs::exists(tmp / out); after += 40) {
      kills += killed_after(after, [&] { run(out, o); }) ? 1 : 0;
    }
    EXPECT_GT(kills, 0);
    if (!fs::exists(tmp / out)) run(out, o);
    EXPECT_EQ(weights(out), weights(whole));
    EXPECT_EQ(curve(out), curve(whole));
  }
}

TEST_F(HealTest, UnfinishedWorkOfAnotherRecipeModelOrDataIsRefused) {
  HealOptions o = options(8);
  EXPECT_EQ(run("out", o, [] { return true; }).ended, Ended::kInterrupted);
  EXPECT_THROW(run("out", o), c10::ValueError);  // not said to go on
  o.resume = true;
  HealOptions other = o;
  other.model_level.schedule.peak = 2e-2;
  EXPECT_THROW(run("out", other), c10::ValueError);
  EXPECT_THROW(heal(io::Checkpoint::open(tmp / "teacher"), io::Checkpoint::open(tmp / "teacher"),
                    tmp / "out", o, {}),
               c10::ValueError);
  EXPECT_THROW(heal(io::Checkpoint::open(tmp / "student"), io::Checkpoint::open(tmp / "student"),
                    tmp / "out", o, {}),
               c10::ValueError);
  std::ofstream(data(), std::ios::app) << R"({"text": "one line more"})"
                                       << "\n";
  EXPECT_THROW(run("out", o), c10::ValueError);
  o.force = true;
  EXPECT_EQ(run("out", o).ended, Ended::kDone);
  o.force = false;
  EXPECT_THROW(run("out", o), c10::ValueError);  // it exists
}

TEST_F(HealTest, ThreeStepsWithoutAFiniteLossEndTheRun) {
  auto broken = test::make_tiny_model(2);
  for (auto& [name, tensor] : broken.tensors) {
    if (name == "model.norm.weight") tensor.fill_(3e38);  // finite; its logits are not
  }
  test::write_model(broken, tmp / "broken");
  test::write_byte_tokenizer(tmp / "broken");
  const auto student = io::Checkpoint::open(tmp / "broken");
  try {
    heal(student, io::Checkpoint::open(tmp / "teacher"), tmp / "out", options(8), {});
    FAIL() << "expected an error";
  } catch (const c10::ValueError& e) {
    EXPECT_NE(e.msg().find("3 steps in a row"), std::string::npos) << e.msg();
  }
  EXPECT_FALSE(fs::exists(tmp / "out"));
  EXPECT_FALSE(fs::exists(tmp / "out.partial")) << "nothing to go on from";
}

TEST_F(HealTest, ARunThatDivergesEndsWithTheBestOfBefore) {
  HealOptions o = options(40);
  o.stream.held_out = 2;
  o.model_level.evaluate_every = 2;
  o.resume = true;
  int asked = 0;
  EXPECT_EQ(run("out", o, [&] { return ++asked > 7; }).ended, Ended::kInterrupted);
  int broken = 0;
  for (const auto& entry : fs::recursive_directory_iterator(tmp / "out.partial" / "run")) {
    if (entry.path().parent_path().filename().string().starts_with("state-") &&
        entry.path().extension() == ".safetensors") {
      auto tensors = io::load_safetensors(entry.path());
      if (tensors.size() != 1 || !tensors.contains("values")) continue;
      tensors.at("values").fill_(3e38);
      io::save_safetensors(entry.path(), {tensors.begin(), tensors.end()});
      ++broken;
    }
  }
  ASSERT_EQ(broken, 1);
  const HealResult result = run("out", o);
  EXPECT_EQ(result.ended, Ended::kDiverged);
  EXPECT_LT(result.after.loss, result.before.loss);
  EXPECT_LT(result.steps, 12);
}

TEST_F(HealTest, ALastStepThatIsNotFiniteIsNoResultWhereNothingIsHeldOut) {
  HealOptions o = options(2);
  o.stream.held_out = 0;
  o.model_level.schedule.peak = 1e38;
  EXPECT_THROW(run("out", o), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "out"));
}

TEST_F(HealTest, WithoutHeldOutTextNothingIsMeasured) {
  HealOptions o = options(1);
  o.stream.held_out = 0;
  const HealResult result = run("out", o);
  EXPECT_TRUE(std::isnan(result.after.loss));
  EXPECT_EQ(read_run_log(tmp / "out" / "heal.jsonl").back()["after"]["kl"], nullptr);
}

TEST_F(HealTest, ATeacherOfOtherTokensIsRefused) {
  test::write_model(test::make_tiny_model(), tmp / "other");
  test::ByteTokenizer tokenizer;
  tokenizer.special = {"<|endoftext|>", "<|im_end|>", "<|im_start|>"};
  test::write_byte_tokenizer(tmp / "other", tokenizer);
  try {
    heal(io::Checkpoint::open(tmp / "student"), io::Checkpoint::open(tmp / "other"), tmp / "out",
         options(2), {});
    FAIL() << "expected an error";
  } catch (const c10::ValueError& e) {
    EXPECT_NE(e.msg().find("a teacher of the same tokens"), std::string::npos) << e.msg();
  }
}

TEST_F(HealTest, BlocksComeNearerToTheOriginals) {
  HealOptions o = options(0);
  o.block_tokens = o.tokens = 6 * 4 * 96;
  o.block_level.learning_rate = 3e-3;
  run("out", o);
  int64_t blocks = 0;
  for (const auto& line : log("out")) {
    if (!line.contains("block")) continue;
    ++blocks;
    EXPECT_LT(line["error_after"].get<double>(), 0.9 * line["error_before"].get<double>());
  }
  EXPECT_EQ(blocks, 2);
}

TEST_F(HealTest, AStoredTeacherLeadsWhereTheLiveOneDoes) {
  HealOptions o = options(20);
  o.stream.held_out = 2;
  o.model_level.weights = {0.0, 1.0};
  const HealResult live = run("live", o);
  o.top_k = 200;  // of 264 tokens
  const HealResult stored = run("stored", o);
  EXPECT_NEAR(stored.after.kl, live.after.kl, 0.02 * live.before.kl);

  // Asked before each batch that the teacher is shown, too.
  int asked = 0;
  EXPECT_EQ(run("cut", o, [&] { return ++asked == 8; }).ended, Ended::kInterrupted);
  const auto teacher = tmp / "cut.partial" / "run" / "teacher" / "stored.json";
  EXPECT_EQ(nlohmann::json::parse(test::read_file(teacher))["rows"], 7 * 4);
  o.resume = true;
  run("cut", o);
  EXPECT_EQ(weights("cut"), weights("stored"));

  o.resume = false;
  o.top_k = 265;
  EXPECT_THROW(run("too-many", o), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "too-many.partial"));
}

TEST_F(HealTest, TheMastersKeepWhatBfloat16WouldRoundAway) {
  HealOptions o = options(10);
  o.model_level.schedule.peak = 1e-5;  // ten steps: less than half of a bfloat16's last place
  const auto moved = [&](torch::ScalarType dtype, const std::string& out) {
    o.load.dtype = dtype;
    run(out, o);
    const auto from = io::load_safetensors(tmp / "student" / "model.safetensors");
    std::vector<torch::Tensor> parts;
    for (const auto& [name, tensor] : io::load_safetensors(tmp / out / "model.safetensors")) {
      if (name.find(".cores.") == std::string::npos) continue;
      parts.push_back((tensor - from.at(name)).flatten());
    }
    return torch::cat(parts);
  };
  const torch::Tensor exact = moved(torch::kFloat32, "float32");
  const torch::Tensor rounded = moved(torch::kBFloat16, "bfloat16");
  EXPECT_GT(exact.norm().item<double>(), 0.0);
  EXPECT_GT(torch::cosine_similarity(exact, rounded, 0).item<double>(), 0.8);
  EXPECT_NEAR(rounded.norm().item<double>(), exact.norm().item<double>(),
              0.2 * exact.norm().item<double>());
}

TEST_F(HealTest, CheckpointedBlocksGiveTheSameParameters) {
  HealOptions o = options(5);
  run("plain", o);
  o.model_level.checkpointing = true;
  run("checkpointed", o);
  const auto a = io::load_safetensors(tmp / "plain" / "model.safetensors");
  for (const auto& [name, tensor] :
       io::load_safetensors(tmp / "checkpointed" / "model.safetensors")) {
    if (!tensor.is_floating_point()) continue;
    EXPECT_TRUE(torch::allclose(tensor, a.at(name), 1e-4, 1e-5)) << name;
  }
}

TEST_F(HealTest, PatienceEndsARunThatGetsNoBetterAndTheBestIsKept) {
  HealOptions o = options(60);
  o.stream.held_out = 2;
  o.model_level.schedule.peak = 1e-30;  // changes nothing
  o.model_level.patience = 2;
  const HealResult result = run("out", o);
  EXPECT_EQ(result.ended, Ended::kEarly);
  EXPECT_EQ(result.steps, 10);
  EXPECT_EQ(result.after.loss, result.before.loss);
}

TEST_F(HealTest, ARunThatPatienceEndedStaysEnded) {
  HealOptions o = options(60);
  o.stream.held_out = 2;
  o.model_level.schedule.peak = 1e-30;
  o.model_level.patience = 2;
  o.resume = true;
  int asked = 0;
  run("out", o, [&] { return ++asked > 1; });
  const fs::path in_the_way = tmp / "out.partial" / "run" / "trained.safetensors";
  fs::create_directories(in_the_way / "folder");
  EXPECT_THROW(run("out", o), SystemError);  // after the last step
  fs::remove_all(in_the_way);
  const HealResult result = run("out", o, [] { return true; });  // nobody is asked any more
  EXPECT_EQ(result.ended, Ended::kEarly);
  EXPECT_EQ(result.steps, 10);
}

TEST_F(HealTest, TheBestParametersAreWrittenWhereTheLastAreWorse) {
  // What is learned by heart of random letters says nothing of others.
  std::ofstream file(data());
  const torch::Tensor letters = torch::randint('a', 'z' + 1, {20, 80}, torch::kInt64);
  for (int64_t i = 0; i < letters.size(0); ++i) {
    std::string text;
    for (int64_t k = 0; k < letters.size(1); ++k) {
      text += static_cast<char>(letters[i][k].item<int64_t>());
    }
    file << nlohmann::json{{"text", text}}.dump() << "\n";
  }
  file.close();
  HealOptions o = options(100);
  o.stream.held_out = 4;
  o.model_level.weights = {1.0, 0.0};
  o.model_level.schedule.peak = 2e-2;
  const HealResult result = run("out", o);
  double best = result.before.loss, last = 0.0;
  for (const auto& line : log("out")) {
    if (!line.contains("held_out_loss")) continue;
    last = line["held_out_loss"];
    best = std::min(best, last);
  }
  EXPECT_GT(last, 1.05 * best);
  EXPECT_NEAR(result.after.loss, best, 1e-6);
  o.model_level.schedule.peak = 1e-12;
  o.tokens = 4 * 96;
  const HealResult again =
      heal(io::Checkpoint::open(tmp / "out"), std::nullopt, tmp / "again", o, {});
  EXPECT_NEAR(again.before.loss, best, 1e-4);
}

TEST_F(HealTest, SaysWhatIsMissing) {
  const auto student = io::Checkpoint::open(tmp / "student");
  EXPECT_THROW(heal(student, std::nullopt, tmp / "out", options(4), {}), c10::ValueError);
  HealOptions o = options(4);
  o.model_level.weights = {1.0, 0.0};
  EXPECT_EQ(heal(student, std::nullopt, tmp / "out", o, {}).steps, 4);
  o.tokens = 10;
  EXPECT_THROW(heal(student, std::nullopt, tmp / "out2", o, {}), c10::ValueError);
  o = options(4);
  o.model_level.weights = {0.0, 0.0};
  EXPECT_THROW(run("out3", o), c10::ValueError);
  o = options(4);
  o.trained = {.factors = true, .dense = false, .norms = false};
  const auto dense = io::Checkpoint::open(tmp / "teacher");
  EXPECT_THROW(heal(dense, dense, tmp / "out4", o, {}), c10::ValueError);
  EXPECT_FALSE(fs::exists(tmp / "out4.partial"));
}

TEST(WriteHealed, EveryFormOfALayerKeepsItsMatrix) {
  const test::TemporaryFolder tmp;
  const test::CompressedModel models = test::make_compressed_model();
  const auto checkpoint = io::Checkpoint::open(test::write_model(models.compressed, tmp / "m"));
  const auto model = model::Model::load(checkpoint, {.free_gauge = true});
  std::vector<std::pair<std::string, torch::Tensor>> halves[2];  // cores of one network in both
  size_t count = 0;
  for (const auto& [name, tensor, role] : model.parameters()) {
    tensor.mul_(1.0 + 0.1 * torch::rand_like(tensor));
    halves[++count % 2].emplace_back(name, tensor);
  }
  io::save_safetensors(tmp / "a", halves[0]);
  io::save_safetensors(tmp / "b", halves[1]);
  fs::create_directories(tmp / "out");
  write_healed(checkpoint, TrainedTensors({tmp / "a", tmp / "b"}), {{"step", "test"}}, tmp / "out");
  const auto healed = model::Model::load(io::Checkpoint::open(tmp / "out"));
  const torch::Tensor ids = torch::randint(264, {2, 20}, torch::kInt64);
  const torch::Tensor expected = model.forward(ids), found = healed.forward(ids);
  EXPECT_LT((expected - found).abs().max().item<double>(),
            1e-4 * expected.abs().max().item<double>());

  halves[1].back().second[0] = NAN;
  io::save_safetensors(tmp / "b", halves[1]);
  fs::create_directories(tmp / "bad");
  EXPECT_THROW(write_healed(checkpoint, TrainedTensors({tmp / "a", tmp / "b"}), {}, tmp / "bad"),
               c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
