#include "schmidt/parallel/ranks.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace schmidt::parallel {
namespace {

// This program runs by itself and as each of three ranks.
class FinalizeAtTheEnd : public ::testing::Environment {
  void TearDown() override { finalize(); }
};
const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new FinalizeAtTheEnd);

std::string text_of(int64_t r) {
  return std::string(static_cast<size_t>(r) * 1000, 'a') + fmt::format("{}", r);
}

TEST(Ranks, AreNumbered) {
  EXPECT_GE(rank(), 0);
  EXPECT_LT(rank(), size());
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(size(), launched == nullptr ? 1 : std::atoi(launched));
}

TEST(Ranks, HaveAPlaceOnTheirMachine) {
  EXPECT_EQ(place_on_machine(), rank());  // all of this test's are on one
}

TEST(Ranks, BroadcastGivesEveryoneTheTextOfRankZero) {
  EXPECT_EQ(broadcast(text_of(rank() + 5)), text_of(5));
  EXPECT_EQ(broadcast(rank() == 0 ? "" : "not empty"), "");
}

TEST(Ranks, GatherGivesEveryoneTheTextsByRank) {
  const std::vector<std::string> texts = gather(text_of(rank()));
  ASSERT_EQ(static_cast<int64_t>(texts.size()), size());
  for (int64_t r = 0; r < size(); ++r) EXPECT_EQ(texts[static_cast<size_t>(r)], text_of(r));
  for (const std::string& empty : gather("")) EXPECT_EQ(empty, "");
}

TEST(Ranks, BarrierWaitsForTheSlowest) {
  using Clock = std::chrono::steady_clock;
  barrier();
  const auto start = Clock::now();
  if (rank() == size() - 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  barrier();
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(90));
}

// Run by the test below, in ranks of its own.
TEST(Victim, DISABLED_DiesByASignal) {
  if (rank() == 1) std::raise(SIGKILL);
  barrier();
}

TEST(Victim, DISABLED_Fails) {
  if (rank() == 1) parallel::abort(3);
  barrier();
}

#ifdef SCHMIDT_MPIRUN
TEST(Ranks, OneThatDiesOrFailsEndsTheOthers) {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) GTEST_SKIP() << "a rank itself";
  for (const char* how : {"DiesByASignal", "Fails"}) {
    const int status =
        std::system(fmt::format("timeout 30 {} -n 3 /proc/{}/exe --gtest_also_run_disabled_tests "
                                "--gtest_filter=Victim.DISABLED_{} >/dev/null 2>&1",
                                SCHMIDT_MPIRUN, ::getpid(), how)
                        .c_str());
    const int code = WEXITSTATUS(status);
    EXPECT_NE(code, 0) << how;
    EXPECT_NE(code, 124) << how << ": the others went on waiting";
  }
}
#endif

}  // namespace
}  // namespace schmidt::parallel
