#include <algorithm>
#include <csignal>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/compress/allocate.h"
#include "schmidt/compress/compress.h"
#include "schmidt/compress/uniform.h"
#include "schmidt/model/model.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

// Compression with calibration, from windows of random tokens of a tiny model.
class CalibratedTest : public testing::Test {
 protected:
  CalibratedTest()
      : checkpoint(io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"))),
        layers(share_inputs(dense_layers(checkpoint))) {
    at::set_num_threads(1);  // OpenMP's threads do not survive fork
    at::manual_seed(5);
    windows = torch::randint(264, {10, 24}, torch::kInt64);
  }

  Statistics collect(const fs::path& folder, const ProgressFn& progress = {}) const {
    const StreamedModel streamed(checkpoint, {});
    return Statistics::collect(checkpoint, streamed, layers, windows, folder, {.batch = 4},
                               progress);
  }

  CompressResult run(const std::vector<LayerPlan>& plan, const Statistics* statistics,
                     const fs::path& out, const ProgressFn& progress = {}) const {
    CompressOptions options;
    options.calibration = Calibration{.windows = windows, .statistics = statistics, .batch = 4};
    return compress(checkpoint, plan, out, options, progress);
  }

  std::vector<LayerPlan> plan(double keep, const std::string& method,
                              ShapeChoice shape = {.low_rank = true}) const {
    auto plans = plan_keep(layers, shape, keep, summarize(checkpoint).parameters);
    for (LayerPlan& p : plans) p.method = method;
    return plans;
  }

  // KL(original || compressed), nats a token, on the windows.
  double divergence(const fs::path& folder) const {
    const auto log_p = [&](const io::Checkpoint& c) {
      return torch::log_softmax(model::Model::load(c).forward(windows), -1);
    };
    const torch::Tensor p = log_p(checkpoint), q = log_p(io::Checkpoint::open(folder));
    return (p.exp() * (p - q)).sum(-1).mean().item<double>();
  }

  // A child runs `work` and dies by SIGKILL at the progress call number `calls`. True if
  // it lived to the end.
  static bool killed_at(int calls, const std::function<void(const ProgressFn&)>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      int left = calls;
      work([&](const Progress&) {
        if (left-- == 0) ::kill(::getpid(), SIGKILL);
      });
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint;
  std::vector<Layer> layers;
  torch::Tensor windows;
};

TEST_F(CalibratedTest, SpectrumPredictsTheDivergenceOfASmallCut) {
  const Statistics statistics = collect(tmp / "statistics");
  double predicted = 0, measured = 0;
  for (const Layer& layer : layers) {
    const torch::Tensor squares = statistics.of(layer).squares;
    const int64_t rank = squares.size(0) * 3 / 4;
    predicted += squares.slice(0, rank).sum().item<double>() / 2;
    LayerPlan p{layer, tn::low_rank_shape(layer.rows, layer.cols), {rank}, "fisher", true};
    const fs::path out = tmp / layer.name;
    run({p}, &statistics, out);
    measured += divergence(out);
  }
  // Kronecker factors and a second order are approximations; the scale is not.
  EXPECT_GT(predicted, measured / 2);
  EXPECT_LT(predicted, measured * 2);
}

TEST_F(CalibratedTest, FullRankChangesNothing) {
  const Statistics statistics = collect(tmp / "statistics");
  std::vector<LayerPlan> plans;
  for (const Layer& layer : layers) {
    plans.push_back({layer,
                     tn::low_rank_shape(layer.rows, layer.cols),
                     {std::min(layer.rows, layer.cols)},
                     "fisher",
                     true});
  }
  run(plans, &statistics, tmp / "out");
  EXPECT_LT(divergence(tmp / "out"), 1e-6);
}

TEST_F(CalibratedTest, EveryMethodBeatsPlainTruncationWhereItMatters) {
  const Statistics statistics = collect(tmp / "statistics");
  std::map<std::string, double> low_rank;
  for (const char* method : {"tt-svd", "whitened", "fisher"}) {
    run(plan(0.8, method), &statistics, tmp / method);
    low_rank[method] = divergence(tmp / method);
  }
  EXPECT_LT(low_rank["whitened"], low_rank["tt-svd"]);
  EXPECT_LT(low_rank["fisher"], low_rank["whitened"]);

  run(plan(0.8, "tt-svd", {}), nullptr, tmp / "balanced");
  run(plan(0.8, "als", {}), nullptr, tmp / "als");
  EXPECT_LT(divergence(tmp / "als"), divergence(tmp / "balanced"));
}

TEST_F(CalibratedTest, AllocationBySpectraBeatsTheUniformOne) {
  const Statistics statistics = collect(tmp / "statistics");
  std::vector<LayerCurve> curves;
  for (const Layer& layer : layers) {
    curves.push_back(predicted_curve(layer, statistics.of(layer).squares, 0.02));
  }
  const int64_t parameters = summarize(checkpoint).parameters;
  const auto result =
      run(plan_by_curves(curves, 0.8, parameters, "fisher"), &statistics, tmp / "bought");
  EXPECT_LE(result.summary.keep(), 0.8);
  EXPECT_GT(result.summary.keep(), 0.79);
  run(plan(0.8, "fisher"), &statistics, tmp / "uniform");
  EXPECT_LT(divergence(tmp / "bought"), divergence(tmp / "uniform"));
}

TEST_F(CalibratedTest, StatisticsResumeToTheSameBytes) {
  collect(tmp / "whole");
  int kills = 0;
  for (int calls = 0;; ++calls) {
    const fs::path folder = tmp / ("s" + std::to_string(calls));
    const auto work = [&](const ProgressFn& progress) { collect(folder, progress); };
    const bool killed = killed_at(calls, work);
    if (!killed) break;
    ++kills;
    collect(folder);
    for (const char* file : {"block.0.safetensors", "block.1.safetensors"}) {
      EXPECT_EQ(test::read_file(folder / file), test::read_file(tmp / "whole" / file)) << calls;
    }
    EXPECT_FALSE(fs::exists(folder / "stream.0"));
  }
  EXPECT_EQ(kills, 6);  // the embedding, two blocks and the head forward, two blocks back
}

TEST_F(CalibratedTest, OutputMomentsPullBackToThoseOfTheSmallerSide) {
  const StreamedModel streamed(checkpoint, {});
  const Statistics statistics = Statistics::collect(checkpoint, streamed, layers, windows,
                                                    tmp / "s", {.batch = 4, .outputs = true});
  for (const Layer& layer : layers) {
    const GradientMoments gradient = statistics.of(layer).gradient;
    EXPECT_EQ(gradient.outputs.defined(), gradient.pulled_back) << layer.name;
    if (!gradient.pulled_back) continue;
    const torch::Tensor w = load_weight(checkpoint, layer).to(torch::kFloat32);
    const torch::Tensor pulled = torch::matmul(w.t(), torch::matmul(gradient.outputs, w));
    EXPECT_LT((pulled - gradient.moments).norm().item<double>(),
              1e-4 * gradient.moments.norm().item<double>())
        << layer.name;
    EXPECT_NEAR(gradient.outputs.diagonal().mean().item<double>() / gradient.mean_square, 1, 1e-4);
  }
}

TEST_F(CalibratedTest, AutoSaysWhatItChose) {
  const StreamedModel streamed(checkpoint, {});
  const Statistics statistics = Statistics::collect(checkpoint, streamed, layers, windows,
                                                    tmp / "s", {.batch = 4, .outputs = true});
  const auto result = run(plan(0.8, "auto"), &statistics, tmp / "out");
  const auto forms =
      io::Checkpoint::open(tmp / "out").config().at("compression_config").at("layers");
  for (const LayerResult& layer : result.layers) {
    ASSERT_EQ(layer.candidates.size(), 3U);
    const auto chosen = std::ranges::find(layer.candidates, layer.method, &Candidate::method);
    ASSERT_NE(chosen, layer.candidates.end());
    for (const Candidate& c : layer.candidates) {
      EXPECT_LE(chosen->error, c.error);
      EXPECT_LE(c.parameters, layer.plan.parameters());
    }
    EXPECT_EQ(forms.at(layer.plan.layer.name).at("method"), layer.method);
    EXPECT_EQ(forms.at(layer.plan.layer.name).at("candidates").size(), 3U);
  }
}

TEST_F(CalibratedTest, SumsOfNetworksAreWrittenAndRead) {
  const auto result = run(plan(0.8, "sum"), nullptr, tmp / "out");
  EXPECT_LE(result.summary.keep(), 0.8);
  for (const LayerResult& layer : result.layers) {
    EXPECT_EQ(layer.bonds.size(), 2U) << layer.plan.layer.name;
    EXPECT_LE(layer.parameters, layer.plan.parameters());
  }
  run(plan(0.8, "tt-svd"), nullptr, tmp / "plain");
  EXPECT_LT(divergence(tmp / "out"), divergence(tmp / "plain"));
}

TEST_F(CalibratedTest, CompressionResumesToTheSameBytes) {
  const Statistics statistics = collect(tmp / "statistics");
  const auto plans = plan(0.8, "fisher");
  run(plans, &statistics, tmp / "whole");
  const std::string expected = test::read_file(tmp / "whole/model.safetensors");
  int kills = 0;
  for (int calls = 0;; calls += 2) {
    const fs::path out = tmp / ("out" + std::to_string(calls));
    const auto work = [&](const ProgressFn& progress) { run(plans, &statistics, out, progress); };
    const bool killed = killed_at(calls, work);
    if (!killed) break;
    ++kills;
    EXPECT_FALSE(fs::exists(out));
    run(plans, &statistics, out);
    EXPECT_EQ(test::read_file(out / "model.safetensors"), expected) << calls;
  }
  EXPECT_GE(kills, 4);
}

TEST_F(CalibratedTest, RefusesOtherText) {
  const Statistics statistics = collect(tmp / "statistics");
  const auto plans = plan(0.8, "fisher");
  ASSERT_TRUE(killed_at(3, [&](const ProgressFn& p) { run(plans, &statistics, tmp / "out", p); }));
  windows[0][0] = (windows[0][0] + 1) % 264;
  EXPECT_THROW(collect(tmp / "statistics"), c10::ValueError);
  EXPECT_THROW(run(plans, &statistics, tmp / "out"), c10::ValueError);
  windows = torch::full({1, 8}, 264, torch::kInt64);
  EXPECT_THROW(collect(tmp / "other"), c10::ValueError);
}

TEST_F(CalibratedTest, RefusesMethodsWithoutWhatTheyNeed) {
  EXPECT_THROW(compress(checkpoint, plan(0.8, "fisher"), tmp / "a", {}), c10::ValueError);
  EXPECT_THROW(run(plan(0.8, "fisher"), nullptr, tmp / "b"), c10::ValueError);
  const Statistics statistics = collect(tmp / "statistics");
  EXPECT_THROW(run(plan(0.8, "fisher", {}), &statistics, tmp / "c"), c10::ValueError);  // balanced
  EXPECT_THROW(run(plan(0.8, "magic"), &statistics, tmp / "d"), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::compress
