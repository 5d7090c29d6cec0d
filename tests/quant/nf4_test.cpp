#include "schmidt/quant/nf4.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace schmidt::quant {
namespace {

/// Probability below x of the normal distribution.
double normal(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

struct Encoded {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
};

Encoded encode(const std::vector<float>& values, int64_t block = kNf4Block) {
  const auto count = static_cast<int64_t>(values.size());
  Encoded e{std::vector<uint8_t>(static_cast<size_t>(nf4_bytes(count))),
            std::vector<float>(static_cast<size_t>(blocks_of(count, block)))};
  encode_nf4(values.data(), count, block, e.codes.data(), e.absmax.data());
  return e;
}

std::vector<float> decode(const Encoded& e, int64_t begin, int64_t end, int64_t block = kNf4Block) {
  std::vector<float> values(static_cast<size_t>(end - begin));
  decode_nf4(e.codes.data(), {.absmax = e.absmax.data()}, block, begin, end, values.data());
  return values;
}

std::vector<float> random_values(size_t count, uint32_t seed = 5) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0F, 0.02F);
  std::vector<float> values(count);
  for (float& v : values) v = distribution(random);
  return values;
}

TEST(Nf4, LevelsAreQuantilesOfTheNormalDistributionAtEvenProbabilities) {
  constexpr double kEnd = 0.9677083;  // 1 - (1/32 + 1/30) / 2
  double z = 1.0;                     // its quantile, by Newton's method
  for (int i = 0; i < 50; ++i) {
    z -= (normal(z) - kEnd) * std::sqrt(2.0 * M_PI) * std::exp(z * z / 2);
  }
  for (int k = 0; k <= 7; ++k) {  // seven steps down to the zero
    EXPECT_NEAR(normal(kNf4Levels[static_cast<size_t>(k)] * z), 0.5 - (kEnd - 0.5) * (7 - k) / 7,
                1e-7);
  }
  for (int k = 0; k <= 8; ++k) {  // eight steps up
    EXPECT_NEAR(normal(kNf4Levels[static_cast<size_t>(7 + k)] * z), 0.5 + (kEnd - 0.5) * k / 8,
                1e-7);
  }
}

TEST(Nf4, EveryNumberBecomesTheNearestLevelOfItsBlock) {
  for (const size_t count : {1UL, 2UL, 63UL, 64UL, 65UL, 127UL, 1000UL}) {
    const std::vector<float> values = random_values(count);
    const Encoded e = encode(values);
    const std::vector<float> decoded = decode(e, 0, static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) {
      const float a = e.absmax[i / 64];
      float least = INFINITY;
      for (const float level : kNf4Levels) least = std::min(least, std::abs(level * a - values[i]));
      ASSERT_LE(std::abs(decoded[i] - values[i]), least * 1.0001F + 1e-9F) << count << ", " << i;
    }
  }
}

TEST(Nf4, TheLargestMagnitudeStaysAndZerosStayZeros) {
  std::vector<float> values = random_values(192);
  std::fill(values.begin() + 64, values.begin() + 128, 0.0F);
  values[7] = -0.75F;
  const Encoded e = encode(values);
  EXPECT_EQ(e.absmax[0], 0.75F);
  EXPECT_EQ(e.absmax[1], 0.0F);
  const std::vector<float> decoded = decode(e, 0, 192);
  EXPECT_EQ(decoded[7], -0.75F);
  EXPECT_TRUE(
      std::all_of(decoded.begin() + 64, decoded.begin() + 128, [](float v) { return v == 0.0F; }));
}

TEST(Nf4, TheEarlierOfTwoCodesIsInTheHighHalf) {
  const Encoded e = encode({-1.0F, 1.0F, 0.0F});
  EXPECT_EQ(e.codes, (std::vector<uint8_t>{0x0F, 0x77}));
}

TEST(Nf4, APartIsDecodedAsInTheWhole) {
  for (const int64_t block : {32, 64, 256}) {
    const std::vector<float> values = random_values(777);
    const Encoded e = encode(values, block);
    const std::vector<float> whole = decode(e, 0, 777, block);
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 2}, {63, 66}, {127, 777}, {300, 301}}) {
      EXPECT_EQ(decode(e, begin, end, block),
                std::vector<float>(whole.begin() + begin, whole.begin() + end));
    }
  }
}

TEST(Nf4, TheDotProductIsThatOfTheDecodedNumbers) {
  const std::vector<float> values = random_values(500), x = random_values(400, 6);
  const Encoded e = encode(values);
  const std::vector<float> w = decode(e, 77, 477);
  double expected = 0;
  for (size_t i = 0; i < x.size(); ++i) expected += static_cast<double>(w[i]) * x[i];
  EXPECT_NEAR(dot_nf4(e.codes.data(), {.absmax = e.absmax.data()}, 64, 77, 477, x.data()), expected,
              1e-7);
}

TEST(DynamicMap, AscendsAndIsSymmetricButForItsOne) {
  const auto& map = dynamic_map();
  EXPECT_TRUE(std::ranges::is_sorted(map));
  EXPECT_EQ(map[127], 0.0F);
  EXPECT_EQ(map[255], 1.0F);
  for (size_t k = 0; k < 127; ++k) EXPECT_EQ(map[k], -map[254 - k]);
}

TEST(DynamicMap, RoundsToALevelThatNoOtherIsNearerThanByMoreThanAStep) {
  std::vector<float> values = random_values(600);
  std::fill(values.begin() + 256, values.begin() + 512, 0.0F);
  std::vector<uint8_t> codes(values.size());
  std::vector<float> absmax(3);
  encode_dynamic(values.data(), 600, kNestedBlock, codes.data(), absmax.data());
  const Nf4Scales scales{
      .codes = codes.data(), .map = dynamic_map().data(), .nested = absmax.data(), .offset = 0.5F};
  for (size_t i = 0; i < values.size(); ++i) {
    const float a = absmax[i / 256];
    float least = INFINITY;
    for (const float level : dynamic_map()) {
      least = std::min(least, std::abs(level * a - values[i]));
    }
    EXPECT_LE(std::abs(scales.at(static_cast<int64_t>(i)) - 0.5F - values[i]),
              least + a * 2.0F / 65535 + 1e-7F);
  }
  EXPECT_EQ(absmax[1], 0.0F);
  EXPECT_EQ(codes[300], 0);
}

// Their inverse is infinite.
TEST(DynamicMap, NumbersBelowTheNormalOnes) {
  const std::vector<float> values = {1e-40F, -1e-40F, 0.0F};
  std::vector<uint8_t> codes(3);
  float absmax = 0;
  encode_dynamic(values.data(), 3, kNestedBlock, codes.data(), &absmax);
  EXPECT_EQ(codes[0], 255);
  EXPECT_EQ(codes[1], 0);
}

}  // namespace
}  // namespace schmidt::quant
