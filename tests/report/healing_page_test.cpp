#include "schmidt/report/healing_page.h"

#include <gtest/gtest.h>

#include "tests/report/made_log.h"
#include "tests/report/markup.h"
#include "tests/support/support.h"

namespace schmidt::report {
namespace {

using nlohmann::json;
using test::count;
using test::made_log;

TEST(HealingPage, HoldsTheFiguresOfTheRun) {
  const std::string page = healing_page(made_log(40), "Healing of <m>");
  EXPECT_TRUE(test::well_formed(page));
  for (const std::string cell : {"40",     "81920",         "6 min 30 s", "210.05",
                                 "2.1 GB", "0 bytes",       "7",  // the run
                                 "5.125",  "3.25",          "-36.6 %",    "5.5",
                                 "3.75",   "244.69",        "42.521",  // before and after
                                 "0.21",   "0.13",          "2.21",       "2.13",
                                 "0.0005", "a &lt;file&gt;"}) {  // blocks, options
    EXPECT_GE(count(page, "<td>" + cell + "</td>"), 1u) << cell;
  }
  for (const char* title :
       {"Healing of &lt;m&gt;", ">Loss<", ">Cross entropy to the text<",
        ">KL divergence from the original<", ">Learning rate<", ">Gradient norm before clipping<",
        ">Speed<", ">Memory<", ">Error of each block's output<"}) {
    EXPECT_GE(count(page, title), 1u) << title;
  }
  EXPECT_EQ(count(page, "step 10, held out loss: "), 1u);
  EXPECT_EQ(count(page, ">best<"), 1u);
  for (const char* outside : {"src=", "href=", "<script", "@import", "url("}) {
    EXPECT_EQ(count(page, outside), 0u) << outside;
  }
}

TEST(HealingPage, AStepThatWasGoneThroughAgainCountsOnce) {
  std::vector<json> log = made_log(20);
  const std::vector<json> again = made_log(30);
  log.pop_back();
  log.insert(log.end(), again.begin() + 18, again.end());
  const std::string page = healing_page(log, "resumed");
  EXPECT_EQ(count(page, "<tr><td>10</td>"), 1u);
  EXPECT_EQ(count(page, "<tr><td>20</td>"), 1u);
  EXPECT_EQ(count(page, "<tr><td>steps</td><td>30</td></tr>"), 1u);
}

TEST(HealingPage, ARunThatHasNotEndedIsComparedByItsEvaluations) {
  std::vector<json> log = made_log(20);
  log.pop_back();
  const std::string page = healing_page(log, "unfinished");
  EXPECT_EQ(count(page, "step 10 is compared with step 20"), 1u);
}

TEST(HealingPage, StandsWhateverTheLogLacks) {
  for (const std::vector<json>& log :
       {std::vector<json>{}, std::vector<json>{3, json::array(), {{"step", "x"}}},
        std::vector<json>{{{"step", 1}, {"loss", nullptr}, {"skipped", true}}},
        std::vector<json>{{{"before", 1}, {"after", nullptr}}, {{"block", nullptr}}}}) {
    const std::string page = healing_page(log, "little");
    EXPECT_TRUE(test::well_formed(page));
    EXPECT_EQ(count(page, "nan"), 0u) << page;
  }
}

TEST(HealingPage, ALongRunIsNotALongPage) {
  EXPECT_LT(healing_page(made_log(20000), "long").size(), 1'000'000u);
}

}  // namespace
}  // namespace schmidt::report
