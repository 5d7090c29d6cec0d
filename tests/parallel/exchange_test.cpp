#include "schmidt/parallel/exchange.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/ranks.h"

#include "tests/parallel/exchange_cases.h"
#include "tests/support/support.h"

namespace schmidt {
namespace {

// This program runs by itself and as each of several ranks.
class FinalizeAtTheEnd : public ::testing::Environment {
  void TearDown() override { parallel::finalize(); }
};
const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new FinalizeAtTheEnd);

class Exchange : public ::testing::TestWithParam<test::ExchangeCase> {};

TEST_P(Exchange, AmongAllRanks) {
  parallel::Exchange exchange(parallel::all_ranks(), {.deadline_seconds = 30});
  GetParam().check(exchange);
}

// Two groups at work at the same time: all ranks, and those of the same parity.
TEST_P(Exchange, AmongSomeRanksBesideAll) {
  std::vector<int64_t> group;
  for (int64_t r = parallel::rank() % 2; r < parallel::size(); r += 2) group.push_back(r);
  parallel::Exchange all(parallel::all_ranks(), {.deadline_seconds = 30});
  parallel::Exchange some(group, {.deadline_seconds = 30});
  EXPECT_EQ(some.size(), static_cast<int64_t>(group.size()));
  const torch::Tensor x = test::tensor_of(parallel::rank(), 50'000);
  const parallel::Ticket ticket = all.start_sum(x);
  GetParam().check(some);
  parallel::barrier();  // MPI's calls of ranks.h beside those of the thread
  all.wait(ticket);
  test::expect_sum(x, all.size(), 0, x.numel());
}

INSTANTIATE_TEST_SUITE_P(ByMpi, Exchange, ::testing::ValuesIn(test::kExchangeCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Run by the tests below, in ranks of its own: steps of a backward pass and a sum, until
// rank 1 is lost in the third.
void lose_rank_one(const std::function<void()>& how) {
  parallel::Exchange exchange(parallel::all_ranks(), {.deadline_seconds = 3});
  try {
    for (int step = 0; step < 1000; ++step) {
      exchange.describe(fmt::format("step {}", step));
      if (step == 3 && parallel::rank() == 1) how();
      const torch::Tensor x = torch::ones({1'000'000});
      exchange.sum(x);
    }
  } catch (const parallel::LostRank& e) {
    std::fputs(fmt::format("error: {}\n", e.what()).c_str(), stderr);
    parallel::abort(2);
  }
}

TEST(Victim, DISABLED_IsKilled) {
  lose_rank_one([] { std::raise(SIGKILL); });
}
TEST(Victim, DISABLED_IsStopped) {
  lose_rank_one([] { std::raise(SIGSTOP); });
}
TEST(Victim, DISABLED_Hangs) {
  lose_rank_one([] { std::this_thread::sleep_for(std::chrono::hours(1)); });
}

// Bytes that this host has sent over the wire of two_hosts.sh, headers of packets included.
int64_t bytes_on_the_wire() {
  std::ifstream file("/proc/net/dev");
  for (std::string line; std::getline(file, line);) {
    const size_t name = line.find("wire:");
    if (name == std::string::npos) continue;
    std::istringstream fields(line.substr(name + 5));
    int64_t value = 0;
    for (int i = 0; i < 9; ++i) fields >> value;  // the first of what is sent
    return value;
  }
  ADD_FAILURE() << "no wire here";
  return 0;
}

// Run by two_hosts.sh, a rank on each.
TEST(TwoHosts, DISABLED_SendWhatIsCounted) {
  ASSERT_EQ(parallel::size(), 2);
  parallel::Exchange exchange(parallel::all_ranks(), {.deadline_seconds = 30});
  const torch::Tensor gradient = torch::ones({5'000'000});
  exchange.sum(gradient);  // opens the connections
  parallel::barrier();
  const int64_t counted = exchange.bytes_sent();
  const int64_t wire = bytes_on_the_wire();
  for (int step = 0; step < 5; ++step) exchange.sum(gradient);
  parallel::barrier();
  const auto expected = static_cast<double>(exchange.bytes_sent() - counted);
  const auto sent = static_cast<double>(bytes_on_the_wire() - wire);
  EXPECT_EQ(expected, 5 * 20e6);
  EXPECT_GE(sent, expected);
  EXPECT_LE(sent, 1.05 * expected);
  std::printf("rank %d: counted %.0f bytes, %.0f on the wire\n", static_cast<int>(parallel::rank()),
              expected, sent);
}

#ifdef SCHMIDT_MPIRUN

struct Ending {
  int code;
  std::string log;
  double seconds;
};

Ending run_victim(const std::string& name) {
  const test::TemporaryFolder tmp;
  const auto start = std::chrono::steady_clock::now();
  const int status =
      std::system(fmt::format("timeout 40 {} -n 3 /proc/{}/exe --gtest_also_run_disabled_tests "
                              "--gtest_filter=Victim.DISABLED_{} >{} 2>&1",
                              SCHMIDT_MPIRUN, ::getpid(), name, (tmp / "log").string())
                      .c_str());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return {WEXITSTATUS(status), test::read_file(tmp / "log"), took.count()};
}

class LostRank : public ::testing::Test {
  void SetUp() override {
    if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) GTEST_SKIP() << "a rank itself";
  }
};

TEST_F(LostRank, ThatStopsOrHangsEndsTheOthersByTheDeadlineWithOneLine) {
  for (const char* how : {"IsStopped", "Hangs"}) {
    const Ending ending = run_victim(how);
    EXPECT_EQ(ending.code, 2) << ending.log;
    const std::string line = "error: rank 1 did not answer for 3 s (sum of step 3)\n";
    EXPECT_NE(ending.log.find(line), std::string::npos) << ending.log;
    EXPECT_EQ(ending.log.find("error:"), ending.log.rfind("error:")) << ending.log;
    EXPECT_LT(ending.seconds, 15) << how;
  }
}

TEST_F(LostRank, ThatIsKilledEndsTheOthers) {
  const Ending ending = run_victim("IsKilled");
  EXPECT_NE(ending.code, 0) << ending.log;
  EXPECT_NE(ending.log.find("signal 9"), std::string::npos) << ending.log;
  EXPECT_LT(ending.seconds, 15);
}

#endif

}  // namespace
}  // namespace schmidt
