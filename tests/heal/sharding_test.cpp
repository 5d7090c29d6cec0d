#include "schmidt/heal/sharding.h"

#include <gtest/gtest.h>

#include "tests/heal/owned_part.h"
#include "tests/parallel/local_transport.h"

namespace schmidt::heal {
namespace {

const std::vector<Slice> kParameters = {{0, 10}, {10, 11}, {11, 711}, {711, 711}, {712, 802}};

TEST(Sharding, EveryElementHasOneOwner) {
  for (int64_t ranks = 1; ranks <= 6; ++ranks) {
    std::vector<int> owners(802, 0);
    for (int64_t r = 0; r < ranks; ++r) {
      const Sharding sharding(kParameters, r, ranks, 400);
      int64_t end = 0;
      for (const Slice& slice : sharding.owned()) {
        EXPECT_GE(slice.begin, end);
        end = slice.end;
        for (int64_t i = slice.begin; i < slice.end; ++i) ++owners[static_cast<size_t>(i)];
      }
      // Balanced: at most one element for each bucket above the share.
      EXPECT_LE(sharding.owned_numel(),
                802 / ranks + static_cast<int64_t>(sharding.buckets().size()));
    }
    for (size_t i = 0; i < owners.size(); ++i) EXPECT_EQ(owners[i], 1) << i;
  }
}

TEST(Sharding, BucketsGoFromTheEndAndHoldWholeParameters) {
  const Sharding sharding(kParameters, 0, 2, 400);
  std::vector<std::pair<int64_t, int64_t>> found;
  for (const Bucket& b : sharding.buckets()) found.emplace_back(b.slice.begin, b.slice.end);
  const std::vector<std::pair<int64_t, int64_t>> expected = {{711, 802}, {11, 711}, {0, 11}};
  EXPECT_EQ(found, expected);
}

TEST(Sharding, BucketsAreAssembledFromWhatRanksOwnAndTakenApartAgain) {
  test::as_ranks(3, [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const Sharding sharding(kParameters, exchange.rank(), 3, 400);
    const torch::Tensor flat = torch::arange(802, torch::kFloat32);
    const torch::Tensor part = test::owned_part(sharding, flat);
    const torch::Tensor again = torch::zeros_like(part);
    for (size_t b = 0; b < sharding.buckets().size(); ++b) {
      const Slice& slice = sharding.buckets()[b].slice;
      const torch::Tensor whole = sharding.whole_bucket(exchange, part, b);
      EXPECT_TRUE(torch::equal(whole, flat.narrow(0, slice.begin, slice.size())));
      sharding.take_bucket(whole, b, again);
    }
    EXPECT_TRUE(torch::equal(again, part));
  });
}

TEST(Sharding, RefusesParametersThatOverlapAndRanksBeyondTheLast) {
  EXPECT_THROW(Sharding({{0, 10}, {9, 10}}, 0, 1), c10::ValueError);
  EXPECT_THROW(Sharding({{4, 14}, {0, 1}}, 0, 1), c10::ValueError);
  EXPECT_THROW(Sharding({{0, 10}}, 2, 2), c10::ValueError);
}

TEST(Sharding, OfNothingIsEmpty) {
  const Sharding sharding({}, 0, 1);
  EXPECT_TRUE(sharding.buckets().empty());
  EXPECT_EQ(sharding.owned_numel(), 0);
}

}  // namespace
}  // namespace schmidt::heal
