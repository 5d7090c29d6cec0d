#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/compress/compress.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/plan/allocate.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#include "tests/support/whole_pass.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

// Compression with calibration, from windows of random tokens of a tiny model.
class CalibratedTest : public testing::Test {
 protected:
  CalibratedTest()
      : checkpoint(io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"))),
        layers(plan::share_inputs(plan::dense_layers(checkpoint))) {
    at::set_num_threads(1);  // OpenMP's threads do not survive fork
    at::manual_seed(5);
    windows = torch::randint(264, {10, 24}, torch::kInt64);
  }

  calibrate::Statistics collect(const fs::path& folder, const ProgressFn& progress = {}) const {
    const calibrate::StreamedModel streamed(checkpoint, {});
    return calibrate::Statistics::collect(checkpoint, streamed, layers, windows, folder,
                                          {.batch = 4, .activations = activations}, progress);
  }

  CompressResult run(const std::vector<plan::LayerPlan>& plan,
                     const calibrate::Statistics* statistics, const fs::path& out,
                     const ProgressFn& progress = {}) const {
    CompressOptions options;
    options.calibration = Calibration{
        .windows = windows, .statistics = statistics, .batch = 4, .activations = activations};
    return compress(checkpoint, plan, out, options, progress);
  }

  std::vector<plan::LayerPlan> plan(double keep, const std::string& method,
                                    plan::ShapeChoice shape = {.low_rank = true}) const {
    auto plans = plan::plan_keep(layers, shape, keep, package::summarize(checkpoint).parameters);
    for (plan::LayerPlan& p : plans) p.method = method;
    return plans;
  }

  // KL(original || compressed), nats a token, on the windows.
  double divergence(const fs::path& folder) const {
    return test::divergence(checkpoint, io::Checkpoint::open(folder), windows);
  }

  // A child runs `work` and dies by SIGKILL at the progress call number `calls`. True if
  // it lived to the end.
  static bool killed_at(int calls, const std::function<void(const ProgressFn&)>& work) {
    return test::run_in_child([&] { work(test::kill_at(calls)); }) != test::ChildEnd::kDone;
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint;
  std::vector<plan::Layer> layers;
  torch::Tensor windows;
  calibrate::ActivationOptions activations;
};

// In memory or on disk, saved after each step or never.
const std::vector<calibrate::ActivationOptions> kPlaces = {
    {.memory = 1 << 30, .save_after = 0.0},
    {.memory = 0, .save_after = 0.0},
    {.memory = 2 * 10 * 24 * 24 * 4, .save_after = 1e9},  // two streams of the text
};

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != kLockFile) {
      files[fs::relative(entry.path(), folder)] = test::read_file(entry.path());
    }
  }
  return files;
}

TEST_F(CalibratedTest, SpectrumPredictsTheDivergenceOfASmallCut) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  double predicted = 0, measured = 0;
  for (const plan::Layer& layer : layers) {
    const torch::Tensor squares = statistics.of(layer).squares;
    const int64_t rank = squares.size(0) * 3 / 4;
    predicted += squares.slice(0, rank).sum().item<double>() / 2;
    plan::LayerPlan p{layer, tn::low_rank_shape(layer.rows, layer.cols), {rank}, "fisher", true};
    const fs::path out = tmp / layer.name;
    run({p}, &statistics, out);
    measured += divergence(out);
  }
  // Kronecker factors and a second order are approximations; the scale is not.
  EXPECT_GT(predicted, measured / 2);
  EXPECT_LT(predicted, measured * 2);
}

TEST_F(CalibratedTest, FullRankChangesNothing) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  std::vector<plan::LayerPlan> plans;
  for (const plan::Layer& layer : layers) {
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
  const calibrate::Statistics statistics = collect(tmp / "statistics");
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
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  std::vector<plan::LayerCurve> curves;
  for (const plan::Layer& layer : layers) {
    curves.push_back(plan::predicted_curve(layer, statistics.of(layer).squares, 0.02));
  }
  const int64_t parameters = package::summarize(checkpoint).parameters;
  const plan::CurvePlan bought = plan::plan_by_curves(curves, 0.8, parameters, "fisher");
  const auto result = run(bought.layers, &statistics, tmp / "bought");
  EXPECT_LE(result.summary.keep(), 0.8);
  EXPECT_GT(result.summary.keep(), 0.79);
  run(plan(0.8, "fisher"), &statistics, tmp / "uniform");
  EXPECT_LT(divergence(tmp / "bought"), divergence(tmp / "uniform"));
  double loss = 0;
  for (size_t i = 0; i < curves.size(); ++i) {
    const auto taken = std::ranges::find(bought.layers, curves[i].layer.name,
                                         [](const plan::LayerPlan& p) { return p.layer.name; });
    if (taken == bought.layers.end()) continue;  // whole: nothing is lost
    const torch::Tensor squares = statistics.of(curves[i].layer).squares;
    loss += squares.slice(0, taken->max_bonds.front()).sum().item<double>() / 2;
  }
  EXPECT_NEAR(bought.loss, loss, 1e-9);
}

TEST_F(CalibratedTest, StatisticsHoldTheMomentsOfEveryInput) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  for (const plan::Layer& layer : layers) {
    const torch::Tensor x = test::inputs_of(checkpoint, windows, layer.block, layer.group());
    const torch::Tensor expected = torch::matmul(x.t(), x) / x.size(0);
    const torch::Tensor found = statistics.inputs(layer).to(torch::kFloat64);
    EXPECT_LT((found - expected).norm().item<double>(), 1e-5 * expected.norm().item<double>())
        << layer.name;
  }
}

TEST_F(CalibratedTest, LayersAreTheBestForWhatTheCompressedModelReads) {
  CompressOptions options;
  options.calibration = Calibration{.windows = windows, .batch = 4};
  options.method.drift = 1.0;
  options.method.ridge = 1e-7;
  const auto result = compress(checkpoint, plan(0.7, "whitened"), tmp / "out", options);
  const auto compressed = io::Checkpoint::open(tmp / "out");
  const auto changed = model::Model::load(compressed);
  for (const LayerResult& r : result.layers) {
    const plan::Layer& layer = r.plan.layer;
    const torch::Tensor x = test::inputs_of(checkpoint, windows, layer.block, layer.group());
    const torch::Tensor drifted = test::inputs_of(compressed, windows, layer.block, layer.group());
    const torch::Tensor w = plan::load_weight(checkpoint, layer).to(torch::kFloat64);
    const torch::Tensor y = torch::matmul(x, w.t());
    const torch::Tensor z = changed.block(layer.block)
                                .projection(layer.group())
                                ->apply(drifted.to(torch::kFloat32))
                                .to(torch::kFloat64);
    const torch::Tensor same_inputs = torch::matmul(drifted, w.t());
    EXPECT_NEAR(*r.weighted_error / ((same_inputs - z).norm() / same_inputs.norm()).item<double>(),
                1.0, 1e-3)
        << layer.name;

    // Reduced rank regression of the original's outputs on the drifted inputs.
    const auto [q, unused] = torch::linalg_qr(drifted);
    const torch::Tensor explained = torch::matmul(q.t(), y);
    const torch::Tensor kept = torch::linalg_svdvals(explained).slice(0, 0, r.networks[0].bonds[0]);
    const double least = (y.square().sum() - kept.square().sum()).item<double>();
    EXPECT_NEAR((y - z).square().sum().item<double>() / least, 1.0, 1e-3) << layer.name;
  }
}

TEST_F(CalibratedTest, ZeroAndRankOneWeightsAreCompressed) {
  test::TinyModel model = test::make_tiny_model(1);
  const std::string q = "model.layers.0.self_attn.q_proj", o = "model.layers.0.self_attn.o_proj";
  model.tensors[q + ".weight"].zero_();
  model.tensors[o + ".weight"] =
      torch::outer(torch::linspace(1, 2, 24), torch::linspace(-1, 1, 24)) / 10;
  checkpoint = io::Checkpoint::open(test::write_model(model, tmp / "degenerate"));
  layers = plan::dense_layers(checkpoint);
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4, .outputs = true});
  for (const char* method : {"whitened", "als", "gauss-newton", "fisher", "sum", "auto"}) {
    const plan::ShapeChoice shape{.low_rank = !find_method(method).one_network ||
                                              !find_method(method).any_shape};
    const auto result = run(plan(0.8, method, shape), &statistics, tmp / method);
    ASSERT_EQ(result.layers.size(), 7U);
    EXPECT_EQ(result.layers[0].relative_error, 0.0) << method;
    for (const LayerResult& r : result.layers) EXPECT_TRUE(std::isfinite(r.relative_error));
    if (shape.low_rank && std::string(method) != "sum") {
      // The drifted target W T is of rank one as well, and nothing but the drift moves it.
      EXPECT_LT(result.layers[3].relative_error, 0.2) << method;
    }
    EXPECT_TRUE(std::isfinite(divergence(tmp / method))) << method;
  }
}

TEST_F(CalibratedTest, StatisticsResumeToTheSameBytes) {
  collect(tmp / "whole");
  const auto whole = files_of(tmp / "whole");
  EXPECT_EQ(whole.size(), 3U);  // a block each, and what they were made from
  for (size_t place = 0; place < kPlaces.size(); ++place) {
    activations = kPlaces[place];
    int kills = 0;
    for (int calls = 0;; ++calls) {
      const fs::path folder = tmp / fmt::format("s{}-{}", place, calls);
      const auto work = [&](const ProgressFn& progress) { collect(folder, progress); };
      const bool killed = killed_at(calls, work);
      if (!killed) break;
      ++kills;
      killed_at(1, work);  // again, a step later
      collect(folder);
      EXPECT_EQ(files_of(folder), whole) << place << " " << calls;
    }
    EXPECT_EQ(kills, 6);  // the embedding, two blocks and the head forward, two blocks back
  }
}

TEST_F(CalibratedTest, OutputMomentsPullBackToThoseOfTheSmallerSide) {
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4, .outputs = true});
  for (const plan::Layer& layer : layers) {
    const calibrate::GradientMoments gradient = statistics.of(layer).gradient;
    EXPECT_EQ(gradient.outputs.defined(), gradient.pulled_back) << layer.name;
    if (!gradient.pulled_back) continue;
    const torch::Tensor w = plan::load_weight(checkpoint, layer).to(torch::kFloat32);
    const torch::Tensor pulled = torch::matmul(w.t(), torch::matmul(gradient.outputs, w));
    EXPECT_LT((pulled - gradient.moments).norm().item<double>(),
              1e-4 * gradient.moments.norm().item<double>())
        << layer.name;
    EXPECT_NEAR(gradient.outputs.diagonal().mean().item<double>() / gradient.mean_square, 1, 1e-4);
  }
}

TEST_F(CalibratedTest, TheDiagonalPredictsWhatNoiseOfEachLayerCosts) {
  windows = torch::randint(264, {64, 24}, torch::kInt64);
  layers = plan::dense_layers(checkpoint);
  const calibrate::Statistics statistics = collect(tmp / "s");
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::vector<plan::Layer> all = plan::dense_vocabulary(config);
  all.insert(all.end(), layers.begin(), layers.end());
  const test::TinyModel original = test::make_tiny_model();
  double sum = 0, predicted_sum = 0;
  for (const plan::Layer& layer : all) {
    test::TinyModel changed = original;
    torch::Tensor& w = changed.tensors[layer.name + ".weight"];
    const torch::Tensor noise = 0.02 * w.std() * torch::randn_like(w);
    w = w + noise;
    const double measured = divergence(test::write_model(changed, tmp / layer.name));
    const double predicted = statistics.diagonal(layer).loss(noise);
    EXPECT_GT(predicted, 0.25 * measured) << layer.name;
    EXPECT_LT(predicted, 4.0 * measured) << layer.name;
    sum += measured;
    predicted_sum += predicted;
  }
  EXPECT_NEAR(predicted_sum / sum, 1.0, 0.3);
}

// Along what all last states have in common, the diagonal knows nothing.
TEST_F(CalibratedTest, RowsPredictWhatErrorsThatAddUpCost) {
  windows = torch::randint(264, {64, 24}, torch::kInt64);
  layers = plan::dense_layers(checkpoint);
  const calibrate::Statistics statistics = collect(tmp / "s");
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  for (const plan::Layer& layer : plan::dense_vocabulary(config)) {
    const calibrate::RowFisher fisher = statistics.rows(layer);
    const calibrate::DiagonalFisher diagonal = statistics.diagonal(layer);
    const torch::Tensor leading =
        std::get<1>(torch::linalg_eigh(fisher.summed())).select(1, layer.cols - 1);
    test::TinyModel changed = test::make_tiny_model();
    torch::Tensor& w = changed.tensors[layer.name + ".weight"];
    const torch::Tensor noise =
        torch::outer(0.02 * w.std() * torch::randn({layer.rows}), leading) * std::sqrt(layer.cols);
    w = w + noise;
    const double measured = divergence(test::write_model(changed, tmp / layer.name));
    EXPECT_NEAR(fisher.loss(noise) / measured, 1.0, 0.5) << layer.name;
    EXPECT_LT(diagonal.loss(noise), 0.8 * fisher.loss(noise)) << layer.name;
    // The same of errors that know nothing of each other.
    const torch::Tensor any = torch::randn_like(w);
    EXPECT_NEAR(fisher.loss(any) / diagonal.loss(any), 1.0, 0.1) << layer.name;
  }
}

TEST_F(CalibratedTest, BlocksReadTheEmbeddingAsItIsStored) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::vector<plan::LayerPlan> both = plan(0.7, "whitened");
  for (const plan::Layer& layer : plan::dense_vocabulary(config)) {
    both.push_back({.layer = layer, .method = "gptq", .integers = quant::IntegerFormat{2, 8}});
  }
  const calibrate::Statistics statistics = collect(tmp / "s");
  const std::vector<plan::LayerPlan> blocks(both.begin(), both.end() - 1);
  const std::vector<plan::LayerPlan> embedding(both.end() - 1, both.end());
  run(both, &statistics, tmp / "together");
  run(blocks, &statistics, tmp / "blocks");
  CompressOptions options;
  options.calibration = Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  compress(io::Checkpoint::open(tmp / "blocks"), embedding, tmp / "one by one", options);
  const auto together = io::load_safetensors(tmp / "together" / "model.safetensors");
  const auto one_by_one = io::load_safetensors(tmp / "one by one" / "model.safetensors");
  const std::string codes = "model.embed_tokens.weight_packed";
  EXPECT_TRUE(torch::equal(together.at(codes), one_by_one.at(codes)));
  EXPECT_LT(divergence(tmp / "together"), divergence(tmp / "one by one"));
}

TEST_F(CalibratedTest, AutoSaysWhatItChose) {
  const calibrate::StreamedModel streamed(checkpoint, {});
  const calibrate::Statistics statistics = calibrate::Statistics::collect(
      checkpoint, streamed, layers, windows, tmp / "s", {.batch = 4, .outputs = true});
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
    EXPECT_EQ(layer.networks.size(), 2U) << layer.plan.layer.name;
    EXPECT_LE(layer.parameters, layer.plan.parameters());
  }
  run(plan(0.8, "tt-svd"), nullptr, tmp / "plain");
  EXPECT_LT(divergence(tmp / "out"), divergence(tmp / "plain"));
}

TEST_F(CalibratedTest, CompressionResumesToTheSameBytes) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  auto plans = plan(0.8, "fisher");
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  for (const plan::Layer& layer : plan::dense_vocabulary(config)) {
    plans.push_back({.layer = layer, .method = "gptq", .integers = quant::IntegerFormat{3, 8}});
  }
  run(plans, &statistics, tmp / "whole");
  const auto whole = files_of(tmp / "whole");
  int kills = 0;
  for (int calls = 0;; calls += 2) {
    activations = kPlaces[static_cast<size_t>(kills) % kPlaces.size()];
    const fs::path out = tmp / fmt::format("out{}", calls);
    const auto work = [&](const ProgressFn& progress) { run(plans, &statistics, out, progress); };
    const bool killed = killed_at(calls, work);
    if (!killed) break;
    ++kills;
    EXPECT_FALSE(fs::exists(out));
    run(plans, &statistics, out);
    EXPECT_EQ(test::read_file(out / "model.safetensors"), whole.at("model.safetensors")) << calls;
    EXPECT_FALSE(fs::exists(out / "layers"));
  }
  EXPECT_GE(kills, 6);
}

TEST_F(CalibratedTest, SavesAPlaceAfterWorkThatIsWorthIt) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  const auto plans = plan(0.8, "fisher");
  const auto saved = [&](double save_after) {
    activations = {.save_after = save_after};
    std::set<std::string> seen;
    const auto look = [&](const char* folder) {
      return [&, folder](const Progress&) {
        if (fs::exists(tmp / folder)) {
          for (const auto& [name, bytes] : files_of(tmp / folder)) seen.insert(name);
        }
      };
    };
    collect(tmp / "s", look("s/unfinished"));
    run(plans, &statistics, tmp / "out", look("out.partial/layers/streams"));
    fs::remove_all(tmp / "s");
    fs::remove_all(tmp / "out");
    return seen;
  };
  EXPECT_TRUE(saved(1e9).empty());
  const auto all = saved(0.0);
  for (const char* file : {"residual.0", "residual.2", "forward.json", "gradient.1",
                           "backward.json", "original.1", "compressed.1", "position.json"}) {
    EXPECT_TRUE(all.contains(file)) << file;
  }
}

TEST_F(CalibratedTest, RefusesOtherText) {
  const calibrate::Statistics statistics = collect(tmp / "statistics");
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
  const calibrate::Statistics statistics = collect(tmp / "statistics");
  EXPECT_THROW(run(plan(0.8, "fisher", {}), &statistics, tmp / "c"), c10::ValueError);  // balanced
  EXPECT_THROW(run(plan(0.8, "magic"), &statistics, tmp / "d"), c10::ValueError);
}

calibrate::Statistics collected(const io::Checkpoint& checkpoint,
                                const std::vector<plan::Layer>& layers,
                                const torch::Tensor& windows, const fs::path& folder) {
  const calibrate::StreamedModel streamed(checkpoint, {});
  return calibrate::Statistics::collect(checkpoint, streamed, layers, windows, folder, {});
}

// In one block, of which some layers have a bias.
TEST(FactorsBesideIntegers, AreKeptAsTheyAreWhileIntegersAreLearned) {
  at::set_num_threads(1);
  const test::TemporaryFolder tmp;
  const io::Checkpoint checkpoint = io::Checkpoint::open(
      test::write_model(test::make_tiny_model_of("qwen2", nlohmann::json::object()), tmp / "m"));
  at::manual_seed(5);
  const torch::Tensor windows = torch::randint(264, {8, 24}, torch::kInt64);
  const std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  const calibrate::Statistics statistics = collected(checkpoint, layers, windows, tmp / "s");
  std::vector<plan::LayerPlan> plans;
  std::set<std::string> factors;
  for (const plan::Layer& layer : layers) {
    const model::Group::Kind kind = layer.group().kind;
    plan::LayerPlan p{.layer = layer, .method = "learned"};
    p.integers = {8, 4, true};
    if (kind == model::Group::kQkv || kind == model::Group::kOut) {
      const int64_t rank = std::min(layer.rows, layer.cols) - 1;
      p = {layer, tn::low_rank_shape(layer.rows, layer.cols), {rank}, "fisher"};
      factors.insert(layer.name);
    }
    plans.push_back(p);
  }
  CompressOptions options;
  options.calibration = Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  options.method.steps = 4;
  const CompressResult result = compress(checkpoint, plans, tmp / "c", options);
  for (const LayerResult& layer : result.layers) {
    EXPECT_EQ(layer.plan.is_rounded(), !factors.contains(layer.plan.layer.name));
    EXPECT_LT(layer.relative_error, 0.2) << layer.plan.layer.name;
  }
  EXPECT_LT(test::divergence(checkpoint, io::Checkpoint::open(tmp / "c"), windows), 0.05);
}

// Of three experts the third is never the one that a token is nearest to.
TEST(IdleExperts, AreCountedAndTakeNothingFromTheOthers) {
  at::set_num_threads(1);
  test::TinyModel tiny = test::make_tiny_model_of(
      "qwen3_moe", {{"num_experts", 3}, {"num_experts_per_tok", 1}, {"moe_intermediate_size", 20}});
  const auto routers = model::block_routers(model::parse_config(tiny.config, "tiny"), 1);
  torch::Tensor& router = tiny.tensors.at(routers.front().name + ".weight");
  router[1].copy_(-router[0]);
  router[2].zero_();
  const test::TemporaryFolder tmp;
  const io::Checkpoint checkpoint = io::Checkpoint::open(test::write_model(tiny, tmp / "m"));
  at::manual_seed(5);
  const torch::Tensor windows = torch::randint(264, {8, 24}, torch::kInt64);
  const std::vector<plan::Layer> layers = plan::dense_layers(checkpoint);
  const calibrate::Statistics statistics = collected(checkpoint, layers, windows, tmp / "s");
  EXPECT_EQ(statistics.idle_experts(), 1);
  std::vector<plan::LayerCurve> curves;
  for (const plan::Layer& layer : layers) {
    curves.push_back(plan::predicted_curve(layer, statistics.squares(layer), 0.02));
  }
  const plan::CurvePlan bought =
      plan::plan_by_curves(curves, 0.95, package::summarize(checkpoint).parameters, "fisher");
  CompressOptions options;
  options.calibration = Calibration{.windows = windows, .statistics = &statistics, .batch = 4};
  compress(checkpoint, bought.layers, tmp / "c", options);
  // What is left of the expert, next to nothing, is read by no token.
  EXPECT_LT(test::divergence(checkpoint, io::Checkpoint::open(tmp / "c"), windows), 1e-3);

  // Where a plan leaves it more, it is cut by its singular values.
  const std::vector<plan::Layer> idle =
      plan::select_layers(layers, {{"layers.1.mlp.experts.2.gate_proj"}, {}});
  std::vector<plan::LayerPlan> plan = plan::plan_bond(idle, {.low_rank = true}, 8);
  const auto by_svd = compress(checkpoint, plan, tmp / "svd", {});
  plan.front().method = "fisher";
  const auto calibrated = compress(checkpoint, plan, tmp / "fisher", options);
  EXPECT_NEAR(calibrated.layers.front().relative_error, by_svd.layers.front().relative_error, 1e-4);
  plan = {{.layer = idle.front(), .method = "learned"}};
  plan.front().integers = {4, 12, true};
  options.method.steps = 2;
  const auto rounded = compress(checkpoint, plan, tmp / "rounded", options);
  EXPECT_LT(rounded.layers.front().relative_error, 0.15);
  plan.front().factor_integers = plan.front().integers;
  plan.front().integers.reset();
  plan.front().shape = tn::low_rank_shape(20, 24);
  plan.front().max_bonds = {12};
  const auto factors = compress(checkpoint, plan, tmp / "factors", options);
  EXPECT_LT(factors.layers.front().relative_error, 0.7);
}

}  // namespace
}  // namespace schmidt::compress
