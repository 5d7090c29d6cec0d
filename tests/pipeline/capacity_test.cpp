#include "schmidt/pipeline/capacity.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "schmidt/pipeline/plan_model.h"
#include "schmidt/plan/footprint.h"

#include "tests/support/support.h"

namespace schmidt::pipeline {
namespace {

constexpr int64_t kContext = 4096;

const MemoryNeed& known(const std::vector<MemoryNeed>& needs, const std::string& name) {
  return *std::ranges::find(needs, name, &MemoryNeed::name);
}

TEST(Capacity, KnowsTheParametersOfKnownModels) {
  const auto needs = known_needs(kContext);
  EXPECT_EQ(known(needs, "LLaMA-2 7B").parameters, 6'738'415'616);
  EXPECT_EQ(known(needs, "Llama-3 8B").parameters, 8'030'261'248);
  EXPECT_EQ(known(needs, "Llama-3 70B").parameters, 70'553'706'496);
  EXPECT_EQ(known(needs, "Llama-3.2 1B").parameters, 1'235'814'400);
}

TEST(Capacity, CountsBytesAsAPlanDoes) {
  const auto needs = known_needs(kContext);
  const plan::Outline model =
      plan::open_outline(test::source_dir() / "examples/llama-2-7b.config.json");
  const double cache = plan::kv_cache_bytes(model.config, kContext, 2);
  const MemoryNeed& need = known(needs, "LLaMA-2 7B");
  EXPECT_NEAR((need.bytes[0] - cache) / 1.15, 2.0 * 6'738'415'616, 1e5);  // and a header
  for (const auto& [width, preset] : {std::pair(1, "int8"), std::pair(2, "int4")}) {
    PlanRecipe recipe;
    recipe.preset = preset;
    // float16 or bfloat16: both are 2 bytes, but the header spells them differently.
    EXPECT_NEAR((need.bytes.at(static_cast<size_t>(width)) - cache) / 1.15,
                predict_plan(model, recipe).bytes, 1e5);
  }
}

TEST(Capacity, TheLargestModelFitsAndTheNextDoesNot) {
  for (size_t width = 0; width < kCapacityBits.size(); ++width) {
    const double memory = 16e9;
    const MemoryNeed largest = largest_need(memory, width, kContext);
    EXPECT_LE(largest.bytes.at(width), memory);
    const MemoryNeed larger = largest_need(1.2 * memory, width, kContext);
    EXPECT_GT(larger.bytes.at(width), memory);
    EXPECT_GT(larger.parameters, largest.parameters);
  }
  EXPECT_GT(largest_need(16e9, 2, kContext).parameters, largest_need(16e9, 0, kContext).parameters);
  EXPECT_EQ(largest_need(1e6, 0, kContext).parameters, 0);
  // The proportions are LLaMA's: 32 blocks are the 7B model.
  const MemoryNeed seven = known(known_needs(kContext), "LLaMA-2 7B");
  EXPECT_EQ(largest_need(seven.bytes[0], 0, kContext).parameters, seven.parameters);
  EXPECT_LT(largest_need(0.999 * seven.bytes[0], 0, kContext).parameters, seven.parameters);
}

}  // namespace
}  // namespace schmidt::pipeline
