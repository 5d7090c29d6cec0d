#include "schmidt/plan/preset.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/package/summary.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::plan {
namespace {

std::string billions(double value) { return fmt::format("{:.1f}", value * 1e-9); }

Outline llama2_7b() { return open_outline(test::source_dir() / "examples/llama-2-7b.config.json"); }

std::vector<LayerPlan> preset_plan(const Outline& model, const Preset& preset) {
  const auto layers = select_layers(model.layers, {{}, {std::string(preset.ignore)}});
  return plan_keep(layers, {}, preset.keep, model.parameters);
}

TEST(Preset, Llama2HasTheShapesOfThePaper) {
  const Outline model = llama2_7b();
  EXPECT_EQ(model.parameters, 6'738'415'616);
  EXPECT_EQ(model.layers.size(), 224u);
  EXPECT_EQ(model.layers[4].rows, 11008);
  EXPECT_EQ(model.layers[6].cols, 11008);
  EXPECT_FALSE(model.fingerprint);
}

// The paper's table: 2.1 B parameters, 4.1 GB and 2.1 GB (with groups of 64 in int4: 2.0), from 6.7
// B and 27 GB.
TEST(Preset, GivesThePapersSizesOnLlama2) {
  const Outline model = llama2_7b();
  for (const Preset& preset : presets()) {
    if (!preset.tensorizes()) continue;
    const Footprint f = footprint(model, preset_plan(model, preset));
    EXPECT_EQ(billions(static_cast<double>(f.parameters)), "2.1");
    EXPECT_EQ(billions(f.bytes(2)), "4.1");
    EXPECT_EQ(billions(f.mixed_bytes()), "2.0");
    EXPECT_EQ(f.dense_layers, 32LL * 11008 * 4096);  // L7
    EXPECT_EQ(f.tensorized_before, 5'033'164'800);
    EXPECT_NEAR(static_cast<double>(f.tensorized) / static_cast<double>(f.tensorized_before), 0.072,
                0.001);
  }
  EXPECT_FALSE(find_preset("compactifai-88").mixed_int4);
  EXPECT_TRUE(find_preset("compactifai-93").mixed_int4);
  EXPECT_THROW(find_preset("compactifai-99"), c10::ValueError);
}

TEST(Preset, MixedBytesAreThoseOfTheParts) {
  const Outline model = llama2_7b();
  const Footprint f = footprint(model, preset_plan(model, find_preset("compactifai-93")));
  const double rest = static_cast<double>(f.parameters - f.dense_layers);
  EXPECT_NEAR(f.mixed_bytes(),
              2 * rest + static_cast<double>(f.dense_layers) / 64 * (32 + 2 + 0.5) +
                  4.0 * static_cast<double>(f.pivots),
              1);
}

TEST(Preset, KeysAndValuesOfLlama2At4096AreTwoGibibytes) {
  EXPECT_EQ(kv_cache_bytes(llama2_7b().config, 4096, 2), 2147483648.0);
}

// 6 operations for each parameter of a product is the usual count of a training step.
TEST(Footprint, OfAnUncompressedModel) {
  const Outline model = llama2_7b();
  const Footprint f = footprint(model, {});
  EXPECT_EQ(f.parameters, model.parameters);
  EXPECT_EQ(f.multiplications, f.multiplications_before);
  EXPECT_NEAR(f.multiplications, 6.607e9, 1e6);
}

TEST(Preset, RefusesAModelWhoseRestIsTooLarge) {
  test::TemporaryFolder tmp;
  test::TinyModel tiny = test::make_tiny_model();
  test::write_file(tmp / "config.json", tiny.config.dump());
  const Outline model = open_outline(tmp.path());
  const auto layers = select_layers(model.layers, {});
  try {
    check_reach(find_preset("compactifai-88"), model, layers, 500);
    FAIL() << "expected an error";
  } catch (const c10::ValueError& e) {
    const std::string message = e.what_without_backtrace();
    EXPECT_NE(message.find("30.7 %"), std::string::npos) << message;
    EXPECT_NE(message.find("is the nearest"), std::string::npos) << message;
  }
}

// What a config says must be what the weights hold.
TEST(Outline, CountsAConfigsParametersAsTheWeightsDo) {
  test::TemporaryFolder tmp;
  for (const bool tied : {true, false}) {
    test::TinyModel tiny = test::make_tiny_model();
    tiny.config["tie_word_embeddings"] = tied;
    if (!tied)
      tiny.tensors["lm_head.weight"] = tiny.tensors.at("model.embed_tokens.weight").clone();
    const auto path = test::write_model(tiny, tmp / (tied ? "tied" : "untied"));
    const Outline full = open_outline(path), dry = open_outline(path / "config.json");
    EXPECT_EQ(full.parameters, dry.parameters);
    ASSERT_EQ(full.layers.size(), dry.layers.size());
    for (size_t i = 0; i < full.layers.size(); ++i) {
      EXPECT_EQ(full.layers[i].name, dry.layers[i].name);
      EXPECT_EQ(full.layers[i].numel(), dry.layers[i].numel());
    }
  }
}

}  // namespace
}  // namespace schmidt::plan
