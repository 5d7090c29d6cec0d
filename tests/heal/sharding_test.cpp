#include "schmidt/heal/sharding.h"

#include <gtest/gtest.h>

namespace schmidt::heal {
namespace {

const std::vector<Extent> kParameters = {{0, 10}, {10, 1}, {11, 700}, {711, 0}, {712, 90}};

TEST(Sharding, EveryElementOfAParameterHasOneOwner) {
  for (int64_t ranks = 1; ranks <= 6; ++ranks) {
    std::vector<int> owners(802, 0);
    for (int64_t r = 0; r < ranks; ++r) {
      const Sharding sharding(kParameters, 400, r, ranks);
      int64_t place = 0;
      for (const Piece& p : sharding.pieces()) {
        EXPECT_EQ(p.place, place);
        place += p.numel;
        const auto& [offset, numel] = kParameters[p.parameter];
        EXPECT_GE(p.begin, offset);
        EXPECT_LE(p.begin + p.numel, offset + numel);
        for (int64_t i = 0; i < p.numel; ++i) ++owners[static_cast<size_t>(p.begin + i)];
      }
      EXPECT_EQ(place, sharding.owned());
      // Balanced: at most one element for each bucket above the share.
      EXPECT_LE(sharding.owned(), 802 / ranks + static_cast<int64_t>(sharding.buckets().size()));
    }
    for (size_t i = 0; i < owners.size(); ++i) EXPECT_EQ(owners[i], i == 711 ? 0 : 1) << i;
  }
}

TEST(Sharding, BucketsGoFromTheEndAndHoldWholeParameters) {
  const Sharding sharding(kParameters, 400, 0, 2);
  std::vector<std::pair<int64_t, int64_t>> found;
  for (const Bucket& b : sharding.buckets()) found.emplace_back(b.begin, b.end);
  const std::vector<std::pair<int64_t, int64_t>> expected = {{711, 802}, {11, 711}, {0, 11}};
  EXPECT_EQ(found, expected);
}

TEST(Sharding, PutUndoesTake) {
  const torch::Tensor flat = torch::arange(802, torch::kFloat32);
  const torch::Tensor copy = torch::full({802}, -1.0);
  for (int64_t r = 0; r < 3; ++r) {
    const Sharding sharding(kParameters, 400, r, 3);
    const torch::Tensor owned = sharding.take(flat);
    EXPECT_EQ(owned.numel(), sharding.owned());
    sharding.put(owned, copy);
  }
  copy[711] = 711;  // the gap
  EXPECT_TRUE(torch::equal(copy, flat));
}

TEST(Sharding, RefusesParametersThatOverlapAndRanksBeyondTheLast) {
  EXPECT_THROW(Sharding({{0, 10}, {9, 1}}, 400, 0, 1), c10::ValueError);
  EXPECT_THROW(Sharding({{4, 10}, {0, 1}}, 400, 0, 1), c10::ValueError);
  EXPECT_THROW(Sharding({{0, 10}}, 400, 2, 2), c10::ValueError);
}

TEST(Sharding, OfNothingIsEmpty) {
  const Sharding sharding({}, 400, 0, 1);
  EXPECT_TRUE(sharding.buckets().empty());
  EXPECT_EQ(sharding.owned(), 0);
}

}  // namespace
}  // namespace schmidt::heal
