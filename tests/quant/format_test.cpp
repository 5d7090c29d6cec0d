#include "schmidt/quant/format.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace schmidt::quant {
namespace {

std::vector<float> random_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(Formats, AreFoundByIdAndByName) {
  EXPECT_EQ(formats().size(), 13U);
  for (const Format& format : formats()) {
    EXPECT_EQ(find_format(format.ggml_type), &format) << format.name;
    EXPECT_EQ(find_format(format.name), &format) << format.name;
    EXPECT_NE(format_names().find(format.name), std::string::npos);
    EXPECT_NE(format.decode, nullptr) << format.name;
    EXPECT_NE(format.dot, nullptr) << format.name;
    EXPECT_NE(format.encode, nullptr) << format.name;
  }
  EXPECT_EQ(find_format(16U), nullptr);
  EXPECT_EQ(find_format("IQ2_XXS"), nullptr);
}

TEST(Formats, AKnownBlock) {
  // Scale 2 (float16 0x4000), then the numbers -8 .. 7 in the low halves, 7 .. -8 in the high.
  std::string block("\x00\x40", 2);
  for (int i = 0; i < 16; ++i) block += static_cast<char>(i | (15 - i) << 4);
  const auto* bytes = reinterpret_cast<const uint8_t*>(block.data());
  float out[32];
  find_format("Q4_0")->decode(bytes, 1, out);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[i], 2.0F * static_cast<float>(i - 8));
    EXPECT_EQ(out[16 + i], 2.0F * static_cast<float>(7 - i));
  }
  std::vector<float> one(32);
  one[3] = 1;
  EXPECT_EQ(find_format("Q4_0")->dot(bytes, 1, one.data()), -10.0);
}

// A block of an odd address, as in a mapped file; its neighbours stay as they are.
TEST(Formats, WhatIsEncodedComesBackWithinHalfAStep) {
  constexpr int64_t kCount = 256;
  const std::vector<float> values = random_values(kCount, 1);
  float largest = 0;
  for (const float v : values) largest = std::max(largest, std::abs(v));
  for (const Format& format : formats()) {
    SCOPED_TRACE(format.name);
    const int64_t blocks = kCount / format.values;
    std::vector<uint8_t> bytes(static_cast<size_t>(blocks * format.bytes + 2), 0xAB);
    format.encode(values.data(), blocks, bytes.data() + 1);
    EXPECT_EQ(bytes.front(), 0xAB);
    EXPECT_EQ(bytes.back(), 0xAB);
    std::vector<float> decoded(kCount);
    format.decode(bytes.data() + 1, blocks, decoded.data());
    // The codes of a block span 2 * largest or less; its two ends may be one step off.
    const double bits =
        8.0 * static_cast<double>(format.bytes) / static_cast<double>(format.values);
    const double step = 2 * largest / (std::exp2(std::floor(bits)) - 1);
    double worst = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(decoded[i]) - values[i]));
    }
    if (format.values > 1) {
      EXPECT_LT(worst, 1.01 * step);
      EXPECT_GT(worst, 0);
    } else {
      EXPECT_LT(worst, largest / 256);  // BF16 has eight bits of mantissa
    }
  }
}

TEST(Formats, BlocksThatHoldNothingButOneNumber) {
  for (const Format& format : formats()) {
    for (const float value : {0.0F, 1.5F, -1.5F}) {
      const std::vector<float> values(static_cast<size_t>(format.values), value);
      std::vector<uint8_t> bytes(static_cast<size_t>(format.bytes));
      std::vector<float> decoded(values.size());
      format.encode(values.data(), 1, bytes.data());
      format.decode(bytes.data(), 1, decoded.data());
      for (const float v : decoded) EXPECT_NEAR(v, value, 2e-3) << format.name;
    }
  }
}

/// Numbers of any machine: uniform, bunched at zero, of one sign and small, on a grid.
std::vector<float> varied_values() {
  std::vector<float> values;
  uint32_t state = 1;
  for (int i = 0; i < 64 * 256; ++i) {
    state = state * 1664525U + 1013904223U;
    float x = static_cast<float>(static_cast<int>(state >> 8)) / 8388608.0F - 1.0F;
    const int kind = i / 256 % 4;
    if (kind == 1) x = x * x * x;
    if (kind == 2) x = (x + 1) * 0.01F;
    if (kind == 3) x = static_cast<float>(static_cast<int>(x * 8)) * 0.25F;
    values.push_back(x);
  }
  return values;
}

// The 64-bit FNV-1a of what quantize_row_*_ref of ggml (llama-cpp-python 0.3.36) makes of them: the
// gguf package does not encode these formats.
TEST(Formats, BlocksOf256AreThoseOfGgml) {
  const std::vector<float> values = varied_values();
  struct Case {
    const char* name;
    uint64_t hash;
  };
  for (const auto& [name, expected] :
       {Case{"Q2_K", 0x01843029cb2157ed}, Case{"Q3_K", 0xe18f3d597d8defdd},
        Case{"Q4_K", 0xe4377ff50f9b102a}, Case{"Q5_K", 0x80bdcd40e7abf55e},
        Case{"Q6_K", 0x93d91e2c1b4dfa24}}) {
    const Format& format = *find_format(name);
    std::vector<uint8_t> bytes(static_cast<size_t>(64 * format.bytes));
    format.encode(values.data(), 64, bytes.data());
    uint64_t hash = 0xcbf29ce484222325;
    for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
    EXPECT_EQ(hash, expected) << name;
  }
}

TEST(Formats, MoreBitsLoseLess) {
  const std::vector<float> values = random_values(64 * 256, 5);
  double before = 1;
  for (const char* name : {"Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0"}) {
    const Format& format = *find_format(name);
    const auto blocks = static_cast<int64_t>(values.size()) / format.values;
    std::vector<uint8_t> bytes(static_cast<size_t>(blocks * format.bytes));
    std::vector<float> decoded(values.size());
    format.encode(values.data(), blocks, bytes.data());
    format.decode(bytes.data(), blocks, decoded.data());
    double error = 0, norm = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(decoded[i] - values[i], 2);
      norm += std::pow(values[i], 2);
    }
    EXPECT_LT(std::sqrt(error / norm), before) << name;
    before = std::sqrt(error / norm);
  }
}

TEST(Formats, TheDotProductIsThatOfTheDecodedRow) {
  constexpr int64_t kCount = 1024;
  const std::vector<float> values = random_values(kCount, 2), x = random_values(kCount, 3);
  for (const Format& format : formats()) {
    const int64_t blocks = kCount / format.values;
    std::vector<uint8_t> bytes(static_cast<size_t>(blocks * format.bytes));
    format.encode(values.data(), blocks, bytes.data());
    std::vector<float> decoded(kCount);
    format.decode(bytes.data(), blocks, decoded.data());
    double dot = 0, magnitude = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const double product = static_cast<double>(decoded[i]) * x[i];
      dot += product;
      magnitude += std::abs(product);
    }
    ASSERT_GT(magnitude, 0) << format.name;
    EXPECT_NEAR(format.dot(bytes.data(), blocks, x.data()), dot, 1e-6 * magnitude) << format.name;
    EXPECT_EQ(format.dot(bytes.data(), 0, x.data()), 0.0) << format.name;
  }
}

}  // namespace
}  // namespace schmidt::quant
