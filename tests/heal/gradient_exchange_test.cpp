#include "schmidt/heal/gradient_exchange.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "tests/heal/owned_part.h"
#include "tests/parallel/exchange_cases.h"
#include "tests/parallel/local_transport.h"

namespace schmidt::heal {
namespace {

// Sizes that do not divide evenly, one beyond a bucket, an empty one, a gap.
const std::vector<Slice> kParameters = {{0, 10},    {10, 11},   {11, 711}, {711, 711},
                                        {712, 717}, {717, 807}, {807, 840}};
constexpr int64_t kTotal = 840;
constexpr int64_t kBucketBytes = 400;

torch::Tensor owned_sums(const Sharding& sharding, int64_t ranks) {
  torch::Tensor sum = torch::zeros({kTotal});
  for (int64_t r = 0; r < ranks; ++r) sum += test::tensor_of(r, kTotal);
  return test::owned_part(sharding, sum);
}

class Ranks : public ::testing::TestWithParam<int64_t> {};

// The buckets set out in one order, in whatever order each rank's gradients come.
TEST_P(Ranks, SumAtTheOwnersInAnyOrderOfReadiness) {
  test::as_ranks(GetParam(), [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const Sharding sharding(kParameters, exchange.rank(), exchange.size(), kBucketBytes);
    const torch::Tensor flat = torch::empty({kTotal});
    GradientExchange gradients(exchange, sharding, flat);
    std::mt19937 random(static_cast<unsigned>(exchange.rank()));
    std::vector<size_t> order(kParameters.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (int step = 0; step < 3; ++step) {
      std::ranges::shuffle(order, random);
      const torch::Tensor mine = test::tensor_of(exchange.rank(), kTotal);
      flat.fill_(1000);
      flat[711].copy_(mine[711]);  // the gap, of no parameter
      for (const size_t i : order) {
        const Slice& p = kParameters[i];
        flat.narrow(0, p.begin, p.size()).copy_(mine.narrow(0, p.begin, p.size()));
        gradients.ready(i);
      }
      gradients.finish();
      const torch::Tensor expected = owned_sums(sharding, exchange.size());
      EXPECT_TRUE(torch::allclose(test::owned_part(sharding, flat), expected, 1e-5, 1e-5));

      sharding.gather(exchange, flat);
      torch::Tensor total = torch::zeros({kTotal});
      for (int64_t r = 0; r < exchange.size(); ++r) total += test::tensor_of(r, kTotal);
      for (const Slice& p : kParameters) {
        EXPECT_TRUE(torch::allclose(flat.narrow(0, p.begin, p.size()),
                                    total.narrow(0, p.begin, p.size()), 1e-5, 1e-5));
      }
    }
  });
}

TEST_P(Ranks, ExchangeParametersThatWereNeverReady) {
  test::as_ranks(GetParam(), [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const Sharding sharding(kParameters, exchange.rank(), exchange.size(), kBucketBytes);
    const torch::Tensor flat = test::tensor_of(exchange.rank(), kTotal);
    GradientExchange gradients(exchange, sharding, flat);
    if (exchange.rank() % 2 == 0) gradients.ready(2);
    gradients.finish();
    const torch::Tensor expected = owned_sums(sharding, exchange.size());
    EXPECT_TRUE(torch::allclose(test::owned_part(sharding, flat), expected, 1e-5, 1e-5));
  });
}

TEST_P(Ranks, NormIsThatOfTheWholeGradient) {
  test::as_ranks(GetParam(), [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const Sharding sharding(kParameters, exchange.rank(), exchange.size(), kBucketBytes);
    torch::Tensor flat = test::tensor_of(7, kTotal);
    flat[711] = 0;  // the gap
    EXPECT_NEAR(sharding.norm(exchange, flat), flat.norm().item<double>(), 1e-4);
  });
}

INSTANTIATE_TEST_SUITE_P(Of, Ranks, ::testing::Values(1, 2, 3, 4));

// Reduce-scatter and gather send what one all-reduce would.
TEST(GradientExchange, SendsNoMoreThanAnAllReduce) {
  test::as_ranks(4, [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
    const Sharding sharding({{0, 4000}, {4000, 12'000}}, exchange.rank(), 4, 16'000);
    const torch::Tensor flat = torch::ones({12'000});
    GradientExchange gradients(exchange, sharding, flat);
    gradients.finish();
    sharding.gather(exchange, flat);
    EXPECT_EQ(exchange.bytes_sent(), 2 * 3 * 12'000 / 4 * 4);
  });
}

TEST(GradientExchange, RefusesAParameterTwiceInAStep) {
  parallel::Exchange alone(nullptr);
  const Sharding sharding({{0, 4}, {4, 8}}, 0, 1);
  GradientExchange gradients(alone, sharding, torch::zeros({8}));
  gradients.ready(1);
  EXPECT_THROW(gradients.ready(1), c10::ValueError);
  EXPECT_THROW(gradients.ready(2), c10::ValueError);
  gradients.finish();
  EXPECT_NO_THROW(gradients.ready(1));
}

}  // namespace
}  // namespace schmidt::heal
