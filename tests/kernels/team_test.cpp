#include "schmidt/kernels/team.h"

#include <chrono>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

TEST(Team, WhatMembersWroteIsThereOnceTheyMet) {
  const auto size = static_cast<size_t>(largest_team());
  std::vector<int64_t> numbers(size, 0);
  std::vector<int64_t> wrong(size, 0);
  run_team(false, [&](const Member& member) {
    const auto own = static_cast<size_t>(member.index());
    for (int64_t round = 1; round <= 300; ++round) {
      numbers[own] = round;
      member.meet();
      for (const int64_t number : numbers) wrong[own] += number == round ? 0 : 1;
      member.meet();
    }
  });
  EXPECT_EQ(std::accumulate(wrong.begin(), wrong.end(), int64_t{0}), 0);
}

TEST(Team, SleepsUntilTheLastHasCome) {
  if (largest_team() < 2) GTEST_SKIP() << "one thread";
  int64_t seen = 0;
  bool late = false;
  run_team(false, [&](const Member& member) {
    if (member.index() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      late = true;
    }
    member.meet();
    if (member.index() == 1) seen = late ? 1 : 0;
  });
  EXPECT_EQ(seen, 1);
}

TEST(Team, EndsWithWhatOneThrew) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_THROW(run_team(false,
                          [&](const Member& member) {
                            member.meet();
                            if (member.index() == 0) throw std::bad_alloc();
                            member.meet();
                            member.meet();
                          }),
                 std::bad_alloc);
  }
}

TEST(Team, SharesAreAllThatThereIs) {
  for (const int64_t size : {1, 2, 3, 7}) {
    for (const int64_t count : {0, 1, 5, 16, 100, 577}) {
      for (const int64_t unit : {1, 4, 16}) {
        Team team;
        int64_t next = 0;
        for (int64_t index = 0; index < size; ++index) {
          const Share share = Member(team, index, size).share(count, unit);
          EXPECT_EQ(share.begin, next);
          EXPECT_TRUE(share.begin % unit == 0 || share.empty());
          EXPECT_EQ(share.empty(), share.begin == share.end);
          next = share.end;
        }
        EXPECT_EQ(next, count);
      }
    }
  }
}

TEST(Team, IsOneMemberInsideOfAnotherRegion) {
  std::vector<int64_t> sizes(4, 0);
  at::parallel_for(0, 4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!at::in_parallel_region()) continue;
      int64_t members = 0;
      run_team(false, [&](const Member& /*member*/) { ++members; });
      sizes[static_cast<size_t>(i)] = members;
    }
  });
  for (const int64_t size : sizes) EXPECT_LE(size, 1);
}

}  // namespace
}  // namespace schmidt::kernels
