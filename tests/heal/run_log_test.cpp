#include "schmidt/heal/run_log.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::heal {
namespace {

TEST(RunLog, OnlyTheLastLineMayBeCutShort) {
  const test::TemporaryFolder tmp;
  const auto read = [&](const std::string& content) {
    test::write_file(tmp / "log.jsonl", content);
    return read_run_log(tmp / "log.jsonl");
  };
  const std::string line = "{\"step\": 1}\n";
  EXPECT_EQ(read(line + line).size(), 2u);
  EXPECT_EQ(read(line + line + "{\"step\": 2, \"los").size(), 2u);
  EXPECT_TRUE(read("").empty());
  EXPECT_TRUE(read("{\"ru").empty());
  for (const std::string broken : {"{\"step\": 2, \"los\n", "[1]\n", "\n"}) {
    try {
      read(line + broken + line);
      ADD_FAILURE() << broken;
    } catch (const FormatError& e) {
      EXPECT_NE(std::string(e.what()).find("line 2"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(read_run_log(tmp / "absent"), SystemError);
}

TEST(RunLog, ForgetsTheStepsBeyondAResumedOne) {
  const test::TemporaryFolder tmp;
  RunLog log(tmp / "log.jsonl");
  log.write({{"run", 1}});
  for (int64_t block = 0; block < 3; ++block) log.write({{"block", block}});
  log.rewind_to_block(1);
  EXPECT_EQ(read_run_log(log.path()).size(), 2u);
  log.rewind_to_block(0);
  for (int64_t step = 0; step < 5; ++step) log.write({{"step", step}});
  log.rewind(2);
  EXPECT_EQ(read_run_log(log.path()).size(), 4u);
  EXPECT_EQ(read_run_log(log.path()).back()["step"], 2);
  log.rewind(-1);
  EXPECT_EQ(read_run_log(log.path()).size(), 1u);
}

}  // namespace
}  // namespace schmidt::heal
