#include <chrono>

#include <gtest/gtest.h>

#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/lost_rank.h"

#include "tests/parallel/exchange_cases.h"
#include "tests/parallel/local_transport.h"

namespace schmidt {
namespace {

class Ring : public ::testing::TestWithParam<test::ExchangeCase> {};

TEST_P(Ring, OfOneToFiveRanks) {
  for (int64_t ranks = 1; ranks <= 5; ++ranks) {
    SCOPED_TRACE(ranks);
    test::as_ranks(ranks, [&](std::unique_ptr<parallel::Transport> transport) {
      parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 30});
      GetParam().check(exchange);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Exchange, Ring, ::testing::ValuesIn(test::kExchangeCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

std::string lost_by(parallel::Exchange& exchange, const std::function<void()>& work) {
  exchange.describe("step 7");
  try {
    work();
  } catch (const parallel::LostRank& e) {
    return e.what();
  }
  return "";
}

TEST(Deadline, EndsTheOthersAndNamesWhoIsMissing) {
  const auto start = std::chrono::steady_clock::now();
  test::as_ranks(4, [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 0.4});
    if (exchange.rank() == 2) return;  // not heard of again
    const torch::Tensor x = torch::ones({1000});
    EXPECT_EQ(lost_by(exchange, [&] { exchange.sum(x); }),
              "rank 2 did not answer for 0.4 s (sum of step 7)");
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(Deadline, NamesTheOneWhoseMessageIsMissing) {
  test::as_ranks(3, [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 0.2});
    const torch::Tensor x = torch::ones({10});
    if (exchange.rank() != 0) return;
    EXPECT_EQ(lost_by(exchange, [&] { exchange.receive(x, 1); }),
              "ranks 1, 2 did not answer for 0.2 s (receive of step 7)");
  });
}

// Slow is not lost: every turn of the others counts as news.
TEST(Deadline, IsOfSilenceNotOfWork) {
  test::as_ranks(2, [](std::unique_ptr<parallel::Transport> transport) {
    parallel::Exchange exchange(std::move(transport), {.deadline_seconds = 0.5});
    const std::vector<torch::Tensor> tensors(6, torch::ones({10}));
    std::vector<parallel::Ticket> tickets;
    for (const torch::Tensor& x : tensors) {
      if (exchange.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(150));
      tickets.push_back(exchange.start_sum(x));
    }
    EXPECT_NO_THROW(exchange.wait(tickets.back()));
  });
}

TEST(Deadline, IsAboveZero) {
  EXPECT_THROW(parallel::Exchange(std::vector<int64_t>{0}, {.deadline_seconds = 0}),
               c10::ValueError);
  EXPECT_THROW(parallel::Exchange(std::vector<int64_t>{5}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt
