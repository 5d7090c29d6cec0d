#include "schmidt/base/work_folder.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

using Holds = WorkFolder::Holds;

TEST(WorkFolder, KnowsWhoseWorkItHolds) {
  const test::TemporaryFolder tmp;
  WorkFolder mine(tmp / "work", "mine");
  const WorkFolder other(tmp / "work", "other");
  EXPECT_EQ(mine.holds(), Holds::kNothing);
  std::filesystem::create_directory(mine.path());
  EXPECT_EQ(mine.holds(), Holds::kNothing);
  mine.claim();
  mine.claim();
  EXPECT_EQ(mine.holds(), Holds::kThisWork);
  EXPECT_EQ(other.holds(), Holds::kOtherWork);
}

TEST(WorkFolder, TakesWhatLiesAroundItForOtherWork) {
  const test::TemporaryFolder tmp;
  std::filesystem::create_directory(tmp / "own");
  WorkFolder mine(tmp / "own" / "work", "mine");
  EXPECT_EQ(mine.holds_in_own_folder(), Holds::kNothing);
  test::write_file(tmp / "own" / "another's", "");
  EXPECT_EQ(mine.holds_in_own_folder(), Holds::kOtherWork);
  mine.claim();
  EXPECT_EQ(mine.holds_in_own_folder(), Holds::kThisWork);
}

bool has_results(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "result");
}

TEST(WorkFolder, AFailureBeforeTheFirstResultLeavesNothing) {
  const test::TemporaryFolder tmp;
  const auto work = [&](const std::string& name) {
    return WorkFolder(tmp / "work", name, has_results);
  };
  {
    WorkFolder mine = work("mine");
    mine.claim();
    test::write_file(tmp / "work" / "begun", "much");
    EXPECT_EQ(work("other").holds(), Holds::kNothing);
    WorkFolder another_rank = work("mine");
    another_rank.claim();  // did not make it
  }
  EXPECT_FALSE(std::filesystem::exists(tmp / "work"));
  {
    WorkFolder mine = work("mine");
    mine.claim();
    test::write_file(tmp / "work" / "result", "");
  }
  EXPECT_EQ(work("mine").holds(), Holds::kThisWork);
  EXPECT_EQ(work("other").holds(), Holds::kOtherWork);
}

TEST(WorkFolder, WhatAKillLeftWithoutResultsGoes) {
  const test::TemporaryFolder tmp;
  std::filesystem::create_directory(tmp / "work");
  test::write_file(tmp / "work" / "other", "");
  test::write_file(tmp / "work" / "begun", "much");
  WorkFolder mine(tmp / "work", "mine", has_results);
  mine.claim();
  EXPECT_FALSE(std::filesystem::exists(tmp / "work" / "other"));
  EXPECT_FALSE(std::filesystem::exists(tmp / "work" / "begun"));
  EXPECT_TRUE(std::filesystem::exists(tmp / "work" / "mine"));
}

TEST(WorkFolder, SaysWhereItCannotBe) {
  const test::TemporaryFolder tmp;
  test::write_file(tmp / "file", "");
  EXPECT_THROW(WorkFolder(tmp / "file" / "work", "mine").claim(), SystemError);
}

TEST(RemoveAllBut, KeepsOneEntry) {
  const test::TemporaryFolder tmp;
  std::filesystem::create_directories(tmp / "f" / "kept" / "inside");
  std::filesystem::create_directories(tmp / "f" / "other" / "inside");
  test::write_file(tmp / "f" / "file", "");
  remove_all_but(tmp / "f", tmp / "f" / "kept");
  EXPECT_TRUE(std::filesystem::exists(tmp / "f" / "kept" / "inside"));
  EXPECT_FALSE(std::filesystem::exists(tmp / "f" / "other"));
  EXPECT_FALSE(std::filesystem::exists(tmp / "f" / "file"));
}

}  // namespace
}  // namespace schmidt
