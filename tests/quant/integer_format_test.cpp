#include "schmidt/quant/integer_format.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace schmidt::quant {
namespace {

class Packing : public testing::TestWithParam<int> {};

TEST_P(Packing, GivesBackEveryCode) {
  const int bits = GetParam();
  std::mt19937 random(7);
  for (const int64_t count : {1, 5, 31, 32, 33, 64, 95, 576, 1536}) {
    std::vector<uint8_t> codes(static_cast<size_t>(count)), read(codes.size(), 255);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % (1U << bits));
    // Words beyond the codes stay as they are.
    std::vector<uint32_t> words(static_cast<size_t>(packed_words(count, bits)) + 1, 0xABCD1234U);
    pack_codes(codes.data(), count, bits, words.data());
    EXPECT_EQ(words.back(), 0xABCD1234U);
    unpack_codes(words.data(), count, bits, read.data());
    EXPECT_EQ(read, codes) << bits << " bits, " << count;
  }
}

TEST_P(Packing, IsOneStreamOfBitsFromTheLowest) {
  const int bits = GetParam();
  std::vector<uint8_t> codes(40);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>((i * 5 + 1) % (1U << bits));
  }
  std::vector<uint32_t> words(static_cast<size_t>(packed_words(40, bits)));
  pack_codes(codes.data(), 40, bits, words.data());
  for (int64_t bit = 0; bit < 40 * bits; ++bit) {
    const bool stored = (words[static_cast<size_t>(bit / 32)] >> (bit % 32) & 1U) != 0;
    const bool expected = (codes[static_cast<size_t>(bit / bits)] >> (bit % bits) & 1U) != 0;
    ASSERT_EQ(stored, expected) << "bit " << bit;
  }
}

TEST_P(Packing, DecodesRowsByScaleAndZeroPoint) {
  const int bits = GetParam();
  constexpr int64_t kColumns = 2400, kGroup = 48;
  const IntegerFormat format{bits, kGroup, false};
  std::mt19937 random(11);
  std::vector<uint8_t> codes(kColumns), zeros(kColumns / kGroup);
  std::vector<float> scales(zeros.size()), row(kColumns);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % (1U << bits));
  for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(random() % (1U << bits));
  for (float& scale : scales) scale = static_cast<float>(random() % 1000 + 1) * 1e-4F;
  std::vector<uint32_t> words(static_cast<size_t>(packed_words(kColumns, bits)));
  pack_codes(codes.data(), kColumns, bits, words.data());
  const auto check = [&](const uint8_t* with, auto zero_of) {
    decode_row(format, kColumns, words.data(), scales.data(), with, row.data());
    for (size_t j = 0; j < codes.size(); ++j) {
      const size_t g = j / kGroup;
      ASSERT_EQ(row[j], scales[g] * static_cast<float>(codes[j] - zero_of(g))) << j;
    }
  };
  check(zeros.data(), [&](size_t g) { return static_cast<int>(zeros[g]); });
  check(nullptr, [&](size_t) { return format.middle(); });
}

INSTANTIATE_TEST_SUITE_P(Bits, Packing, testing::Values(2, 3, 4, 5, 6, 8));

}  // namespace
}  // namespace schmidt::quant
