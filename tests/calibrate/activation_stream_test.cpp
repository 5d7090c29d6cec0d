#include "schmidt/calibrate/activation_stream.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::calibrate {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWidth = 3;
constexpr int64_t kEverything = int64_t{1} << 30;

class ActivationStreamTest : public testing::Test {
 protected:
  ActivationStreamTest() { states = torch::randn({7, 5, kWidth}); }

  ActivationSpace space(std::optional<int64_t> memory, const Workers& workers = {}) const {
    return {TextBatches::of(windows, 2, workers), tmp / "s", torch::kFloat32, torch::kCPU, memory};
  }

  torch::Tensor batch(const TextBatches& batches, int64_t b) const {
    return states.narrow(0, batches.begin(b), batches.shapes[b].rows);
  }

  void fill(const ActivationSpace& of, ActivationStream& stream) const {
    for (const int64_t b : of.batches().own) stream.write(b, batch(of.batches(), b));
  }

  void expect_states(const ActivationSpace& of, const ActivationStream& stream) const {
    for (const int64_t b : of.batches().own) {
      EXPECT_TRUE(torch::equal(stream.read(b), batch(of.batches(), b))) << b;
    }
  }

  bool any_file() const { return fs::exists(tmp / "s") && !fs::is_empty(tmp / "s"); }

  test::TemporaryFolder tmp;
  torch::Tensor windows = torch::zeros({7, 5}, torch::kInt64);
  torch::Tensor states;  // [windows, t, width]
};

TEST_F(ActivationStreamTest, BatchesAreTheWindowsInTurn) {
  const TextBatches all = TextBatches::of(windows, 2);
  EXPECT_EQ(all.own, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(all.shapes.back().rows, 1);
  EXPECT_EQ(all.begin(3), 6);
  const TextBatches second = TextBatches::of(windows, 2, {.rank = 1, .size = 3});
  EXPECT_EQ(second.own, std::vector<int64_t>{1});
  EXPECT_EQ(second.shapes.size(), 4U);
}

TEST_F(ActivationStreamTest, MemoryAndDiskGiveBackTheSame) {
  for (const int64_t memory : {kEverything, int64_t{0}}) {
    const ActivationSpace s = space(memory);
    {
      ActivationStream stream = s.make("h", kWidth);
      EXPECT_EQ(stream.in_memory(), memory > 0);
      fill(s, stream);
      expect_states(s, stream);
      EXPECT_TRUE(torch::equal(stream.take(3), batch(s.batches(), 3)));
      EXPECT_EQ(any_file(), memory == 0);
    }
    EXPECT_FALSE(any_file());  // nobody has kept it
  }
}

TEST_F(ActivationStreamTest, MemoryIsUsedAsFarAsItReachesAndGivenBack) {
  const ActivationSpace s = space(states.nbytes());
  {
    const ActivationStream first = s.make("first", kWidth);
    EXPECT_TRUE(first.in_memory());
    EXPECT_FALSE(s.make("second", kWidth).in_memory());
  }
  EXPECT_FALSE(s.make("wide", kWidth + 1).in_memory());
  EXPECT_TRUE(s.make("third", kWidth).in_memory());
}

TEST_F(ActivationStreamTest, WhatWasKeptIsFoundByALaterRun) {
  for (const int64_t memory : {kEverything, int64_t{0}}) {
    {
      const ActivationSpace s = space(memory);
      ActivationStream stream = s.make("h", kWidth);
      fill(s, stream);
      stream.keep();
      stream.keep();  // is kept already
    }
    const ActivationSpace later = space(kEverything);
    expect_states(later, later.kept("h", kWidth));
    EXPECT_THROW(later.kept("h", kWidth + 1), FormatError);
    EXPECT_THROW(later.kept("g", kWidth), FormatError);
    EXPECT_FALSE(fs::exists(tmp / "s/g"));
    fs::remove_all(tmp / "s");
  }
}

TEST_F(ActivationStreamTest, PartsOfWorkersAreTheWhole) {
  for (const int64_t memory : {kEverything, int64_t{0}}) {
    for (int64_t rank = 0; rank < 3; ++rank) {
      const ActivationSpace s = space(memory, {.rank = rank, .size = 3});
      ActivationStream part = s.make("h", kWidth);
      fill(s, part);
      part.keep();
    }
    // Another number of workers takes it up.
    const ActivationSpace one = space(kEverything);
    expect_states(one, one.kept("h", kWidth));
    const ActivationSpace half = space(kEverything, {.rank = 1, .size = 2});
    expect_states(half, half.kept("h", kWidth));
    fs::remove_all(tmp / "s");
  }
}

TEST_F(ActivationStreamTest, BatchesMayHaveRowsOfTheirOwnLength) {
  TextBatches batches{{{2, 5}, {1, 9}, {0, 0}}, {0, 1}};
  const ActivationSpace s(batches, tmp / "s", torch::kBFloat16, torch::kCPU, 0);
  ActivationStream stream = s.make("h", kWidth);
  const torch::Tensor a = torch::randn({2, 5, kWidth}).to(torch::kBFloat16);
  const torch::Tensor b = torch::randn({1, 9, kWidth}).to(torch::kBFloat16);
  stream.write(1, b);
  stream.write(0, a);
  EXPECT_TRUE(torch::equal(stream.read(0), a));
  EXPECT_TRUE(torch::equal(stream.read(1), b));
}

TEST_F(ActivationStreamTest, AReadersGradientIsItsOwn) {
  const ActivationSpace s = space(kEverything);
  ActivationStream stream = s.make("h", kWidth);
  fill(s, stream);
  stream.read(0).requires_grad_();
  EXPECT_FALSE(stream.read(0).requires_grad());
}

TEST_F(ActivationStreamTest, RefusesWhatDoesNotFit) {
  const ActivationSpace s = space(kEverything, {.rank = 0, .size = 2});
  ActivationStream stream = s.make("h", kWidth);
  const torch::Tensor fits = torch::zeros({2, 5, kWidth});
  EXPECT_THROW(stream.read(0), c10::ValueError);  // not yet written
  EXPECT_THROW(stream.write(1, fits), c10::ValueError);
  EXPECT_THROW(stream.write(4, fits), c10::ValueError);
  EXPECT_THROW(stream.write(0, torch::zeros({1, 5, kWidth})), c10::ValueError);
  EXPECT_THROW(stream.write(0, fits.to(torch::kFloat64)), c10::ValueError);
  EXPECT_THROW(TextBatches::of(windows, 0), c10::ValueError);
  EXPECT_THROW(ActivationSpace(s.batches(), "/dev/null/s", torch::kFloat32, torch::kCPU, 0)
                   .make("h", kWidth),
               SystemError);
}

TEST(ActivationMemory, IsABoundThatFits) {
  EXPECT_GT(default_activation_memory(), 0);
  EXPECT_LE(default_activation_memory(), int64_t{2} << 30);
}

}  // namespace
}  // namespace schmidt::calibrate
