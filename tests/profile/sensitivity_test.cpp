#include "schmidt/profile/sensitivity.h"

#include <ATen/Parallel.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/eval/perplexity.h"
#include "schmidt/eval/tasks.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::profile {
namespace {

namespace fs = std::filesystem;

class SensitivityTest : public ::testing::Test {
 protected:
  SensitivityTest()
      : checkpoint(io::Checkpoint::open(test::write_model(test::make_tiny_model(3), tmp / "m"))),
        model(model::Model::load(checkpoint)),
        layers(plan::dense_layers(checkpoint)),
        windows(torch::randint(0, 264, {3, 20}, torch::kInt64)) {
    at::set_num_threads(1);  // OpenMP's threads do not survive fork
    options.settings = {0.2, 0.6};
    options.batch = 2;  // the last batch is a short one
  }

  Profile measure(const std::string& folder = "work") {
    return measure_profile(checkpoint, model, layers, windows, options, tmp / folder);
  }

  // What `schmidt eval` says of a checkpoint in which this layer alone is compressed.
  eval::Evaluation evaluated(const LayerProfile& layer, size_t point) {
    plan::LayerPlan plan = layer.network;
    plan.max_bonds = layer.points[point].bonds;
    compress::CompressOptions compress_options;
    compress_options.force = true;
    if (options.statistics != nullptr) {
      compress_options.calibration =
          compress::Calibration{.windows = windows, .statistics = options.statistics, .batch = 2};
    }
    compress::compress(checkpoint, {plan}, tmp / "one", compress_options);
    const auto changed = model::Model::load(io::Checkpoint::open(tmp / "one"));
    const torch::Tensor ids = windows.flatten();
    return eval::evaluate_text(changed, &model,
                               {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()},
                               {.context = windows.size(1)});
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint;
  model::Model model;
  std::vector<plan::Layer> layers;
  torch::Tensor windows;
  ProfileOptions options;
};

TEST_F(SensitivityTest, ReadsTheInputsOfStatistics) {
  const calibrate::StreamedModel streamed(checkpoint, {});
  const auto statistics = calibrate::Statistics::collect(checkpoint, streamed, layers, windows,
                                                         tmp / "statistics", {.batch = 2});
  options.statistics = &statistics;
  options.method = "fisher";
  options.shape.low_rank = true;
  const Profile profile = measure();
  for (const size_t i : {3u, 13u}) {  // o of the first block, down of the second
    const LayerProfile& layer = profile.layers[i];
    const double kl = evaluated(layer, 0).divergence->mean;
    EXPECT_NEAR(layer.points[0].value, kl, 1e-6 + 1e-3 * kl);
    EXPECT_GT(*layer.points[0].weighted_error, *layer.points[1].weighted_error);
  }
}

TEST_F(SensitivityTest, IsTheDivergenceOfAModelWithOneLayerCompressed) {
  const Profile profile = measure();
  EXPECT_EQ(profile.dense, 0.0);
  ASSERT_EQ(profile.layers.size(), 21u);
  for (const size_t i : {0u, 4u, 9u, 13u, 20u}) {
    const LayerProfile& layer = profile.layers[i];
    EXPECT_EQ(layer.network.layer.name, layers[i].name);
    ASSERT_EQ(layer.points.size(), 2u);
    for (size_t p = 0; p < 2; ++p) {
      const double kl = evaluated(layer, p).divergence->mean;
      EXPECT_NEAR(layer.points[p].value, kl, 1e-6 + 1e-3 * kl) << layers[i].name;
      EXPECT_GT(layer.points[p].value, 0.0);
      EXPECT_EQ(layer.points[p].loss, layer.points[p].value);
    }
  }
}

TEST_F(SensitivityTest, ExpertsAreMeasuredOneByOne) {
  checkpoint = io::Checkpoint::open(test::write_model(
      test::make_tiny_model_of("qwen2_moe", {{"num_experts", 4},
                                             {"num_experts_per_tok", 2},
                                             {"moe_intermediate_size", 20},
                                             {"shared_expert_intermediate_size", 28}}),
      tmp / "experts"));
  model = model::Model::load(checkpoint);
  layers = plan::select_layers(
      plan::dense_layers(checkpoint),
      {{"layers.0.mlp.experts.0.gate_proj", "layers.1.mlp.experts.1.up_proj",
        "layers.1.mlp.experts.2.down_proj", "layers.1.mlp.shared_expert.down_proj"},
       {}});
  options.activations.memory = 0;
  Profile profile = measure();
  ASSERT_EQ(profile.layers.size(), 4u);
  for (const LayerProfile& layer : profile.layers) {
    const double kl = evaluated(layer, 0).divergence->mean;
    EXPECT_GT(kl, 0.0) << layer.network.layer.name;
    EXPECT_NEAR(layer.points[0].value, kl, 1e-6 + 1e-3 * kl) << layer.network.layer.name;
  }
  profile.made_by = nlohmann::json::object();
  write_profile(tmp / "profile.json", profile);
  EXPECT_EQ(read_profile(tmp / "profile.json").layers[2].network.layer.expert, 2);
}

TEST_F(SensitivityTest, ActivationsOnDiskGiveTheSameProfile) {
  layers = {layers[1], layers[4], layers[13]};
  options.method = "whitened";
  options.shape.low_rank = true;
  write_profile(tmp / "memory.json", measure("memory"));
  options.activations.memory = 0;
  write_profile(tmp / "disk.json", measure("disk"));
  EXPECT_EQ(test::read_file(tmp / "disk.json"), test::read_file(tmp / "memory.json"));
}

TEST_F(SensitivityTest, MeasuresPerplexityAsEvalDoes) {
  options.metric = "perplexity";
  layers = {layers[1], layers[16]};
  const Profile profile = measure();
  for (const LayerProfile& layer : profile.layers) {
    const eval::Evaluation expected = evaluated(layer, 0);
    EXPECT_NEAR(profile.dense, expected.reference->perplexity, 1e-4 * profile.dense);
    EXPECT_NEAR(layer.points[0].value, expected.model.perplexity, 1e-4 * profile.dense);
    EXPECT_NEAR(layer.points[0].loss, expected.model.nll - expected.reference->nll, 1e-5);
  }
}

TEST_F(SensitivityTest, MeasuresATasksAccuracy) {
  test::write_byte_tokenizer(tmp / "m");
  std::vector<eval::Question> asked;
  for (int q = 0; q < 40; ++q) {
    asked.push_back({"Question " + std::string(static_cast<size_t>(q % 7), 'x') + std::to_string(q),
                     {"a", "b", "cc", "dd"},
                     static_cast<size_t>(q % 4)});
  }
  const eval::MultipleChoice questions(eval::find_task("mmlu"), asked,
                                       text::Tokenizer::load(tmp / "m"), {.batch = 16});
  const auto accuracy = [&](const model::Model& of) {
    std::vector<torch::Tensor> hidden;
    for (const torch::Tensor& ids : questions.batches()) hidden.push_back(of.hidden(ids));
    return questions.accuracy(questions.log_likelihoods(of, hidden));
  };
  options.metric = "mmlu";
  EXPECT_THROW(measure("none"), c10::ValueError);  // without its questions
  options.questions = &questions;
  options.shape.low_rank = true;
  layers = {layers[1], layers[16]};
  for (const char* method : {"tt-svd", "whitened"}) {  // the latter reads the windows too
    options.method = method;
    const Profile profile = measure(method);
    EXPECT_EQ(profile.dense, accuracy(model));
    for (const LayerProfile& layer : profile.layers) {
      for (size_t p = 0; p < layer.points.size(); ++p) {
        EXPECT_EQ(layer.points[p].loss, profile.dense - layer.points[p].value);
        if (options.method != "tt-svd") continue;
        evaluated(layer, p);  // writes the model
        const auto changed = model::Model::load(io::Checkpoint::open(tmp / "one"));
        EXPECT_NEAR(layer.points[p].value, accuracy(changed), 0.026);  // a question may be a tie
      }
    }
  }
  windows = torch::Tensor();
  options.method = "tt-svd";
  EXPECT_EQ(measure("questions alone").dense, accuracy(model));
  options.method = "whitened";
  EXPECT_THROW(measure("inputs of no text"), c10::ValueError);
}

TEST_F(SensitivityTest, NothingIsLostAtFullBond) {
  options.setting = Setting::kBonds;
  options.settings = {2, 1000};
  const Profile profile = measure();
  for (const LayerProfile& layer : profile.layers) {
    EXPECT_LT(layer.points[1].value, 1e-6) << layer.network.layer.name;
    EXPECT_GT(layer.points[0].value, layer.points[1].value);
    EXPECT_EQ(layer.points[1].bonds, tn::full_bonds(layer.network.shape));
  }
}

TEST_F(SensitivityTest, CalibratedMethodsSeeTheTextsInputs) {
  options.shape.low_rank = true;
  const Profile plain = measure("plain");
  options.method = "whitened";
  const Profile whitened = measure("whitened");
  options.method = "als";
  const Profile als = measure("als");
  // The weighted optimum is the best in its norm; the plain one is so in the other.
  for (size_t i = 0; i < plain.layers.size(); ++i) {
    for (size_t p = 0; p < 2; ++p) {
      ASSERT_TRUE(whitened.layers[i].points[p].weighted_error);
      EXPECT_LE(*whitened.layers[i].points[p].weighted_error,
                1.001 * *als.layers[i].points[p].weighted_error);
      EXPECT_GE(whitened.layers[i].points[p].relative_error,
                0.999 * plain.layers[i].points[p].relative_error);
    }
  }
}

TEST_F(SensitivityTest, SumsOfNetworksAreMeasuredAtTheirShareOfTheParameters) {
  options.settings = {0.4, 0.8};  // two terms of the least bonds have to fit
  options.method = "sum";
  options.made_by = {{"program", "test"}};
  const Profile sum = measure("sum");
  write_profile(tmp / "sum.json", sum);
  EXPECT_EQ(read_profile(tmp / "sum.json").layers.size(), layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::vector<Point>& points = sum.layers[i].points;
    for (size_t p = 0; p < 2; ++p) {
      EXPECT_LE(points[p].parameters, options.settings[p] * static_cast<double>(layers[i].numel()))
          << layers[i].name;
      EXPECT_GT(points[p].value, 0.0) << layers[i].name;
    }
    EXPECT_LT(*points[1].weighted_error, *points[0].weighted_error) << layers[i].name;
  }
}

TEST_F(SensitivityTest, StackedLayersAreChangedTogether) {
  const Profile alone = measure("alone");
  layers = plan::share_inputs(layers);
  options.setting = Setting::kBonds;
  options.settings = {1000};
  const Profile stacked = measure();
  ASSERT_EQ(stacked.layers.size(), 12u);
  EXPECT_EQ(stacked.layers[0].network.layer.label(), "L1+L2+L3");
  for (const LayerProfile& layer : stacked.layers) EXPECT_LT(layer.points[0].value, 1e-6);
}

TEST_F(SensitivityTest, SurvivesKillAnywhereAndResumesToTheSameBytes) {
  write_profile(tmp / "whole.json", measure("whole"));
  const std::string expected = test::read_file(tmp / "whole.json");
  for (const int points : {1, 2, 11, 41}) {
    const std::string folder = "killed" + std::to_string(points);
    const auto killed = [&] {
      measure_profile(checkpoint, model, layers, windows, options, tmp / folder,
                      [&](const Progress& progress) {
                        if (progress.done == points) test::kill_now();
                      });
    };
    ASSERT_EQ(test::run_in_child(killed), test::ChildEnd::kKilled);
    // As if it had died in the middle of a line.
    test::write_file(tmp / (folder + "/records.1"), "{\"number\": 41, \"record\": {\"bon");
    int64_t measured = 0;
    const Profile resumed = measure_profile(checkpoint, model, layers, windows, options,
                                            tmp / folder, [&](const Progress&) { ++measured; });
    EXPECT_EQ(measured, 42 - points);
    write_profile(tmp / "resumed.json", resumed);
    EXPECT_EQ(test::read_file(tmp / "resumed.json"), expected);
  }
}

TEST_F(SensitivityTest, RefusesToResumeOtherWork) {
  measure();
  options.settings = {0.3, 0.6};
  EXPECT_THROW(measure(), c10::ValueError);
  options.settings = {0.2, 0.6};
  windows[0][0] = (windows[0][0] + 1) % 264;
  EXPECT_THROW(measure(), c10::ValueError);
  options.force = true;
  measure();
}

TEST_F(SensitivityTest, RefusesWhatDoesNotFit) {
  const ProfileOptions good = options;
  const auto refused = [&](const std::function<void()>& change) {
    options = good;
    change();
    EXPECT_THROW(measure("refused"), c10::ValueError);
  };
  refused([&] { options.settings = {}; });
  refused([&] { options.settings = {0.5, 0.2}; });
  refused([&] { options.settings = {0.0}; });
  refused([&] {
    options.setting = Setting::kBonds;
    options.settings = {2.5};
  });
  refused([&] {
    options.method = "sum";  // of what bonds?
    options.setting = Setting::kBonds;
    options.settings = {2};
  });
  refused([&] { options.method = "fisher"; });    // without statistics
  refused([&] { options.method = "whitened"; });  // in balanced sites
  refused([&] { options.metric = "taste"; });
  EXPECT_FALSE(fs::exists(tmp / "refused"));
}

}  // namespace
}  // namespace schmidt::profile
