#include "schmidt/report/healing_page.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "tests/report/markup.h"
#include "tests/support/support.h"

namespace schmidt::report {
namespace {

using nlohmann::json;
using test::count;

/// A run whose loss falls from 5 to 3 over `steps`.
std::vector<json> made_log(int64_t steps) {
  std::vector<json> log = {{{"run", {{"peak_rate", 5e-4}, {"data", "a <file>"}}}}};
  for (int64_t b = 0; b < 3; ++b) {
    const auto block = static_cast<double>(b);
    log.push_back({{"block", b}, {"error_before", 0.21 + block}, {"error_after", 0.13 + block}});
  }
  for (int64_t s = 1; s <= steps; ++s) {
    const double part = static_cast<double>(s) / static_cast<double>(steps);
    const double wave = 0.2 * std::sin(static_cast<double>(s * s));
    const double loss = 3.0 + 2.0 * std::exp(-4.0 * part) + wave;
    log.push_back({{"step", s},
                   {"tokens", s * 2048},
                   {"loss", loss},
                   {"cross_entropy", loss + 0.4},
                   {"kl", loss - 2.2},
                   {"learning_rate", 5e-4 * part},
                   {"gradient_norm", 0.8 + wave},
                   {"tokens_per_second", 210.0 + 20 * wave},
                   {"seconds", 9.75 * static_cast<double>(s)},
                   {"memory", 2100000000},
                   {"bytes_exchanged", 0},
                   {"skipped", s == 7}});
    if (s % std::max<int64_t>(10, steps / 40) != 0) continue;
    log.push_back({{"step", s},
                   {"held_out_loss", loss + 0.0625},
                   {"held_out_cross_entropy", loss + 0.5},
                   {"held_out_kl", loss - 2.0}});
  }
  log.push_back({{"before", {{"held_out_loss", 5.125}, {"held_out_cross_entropy", 5.5}}},
                 {"after", {{"held_out_loss", 3.25}, {"held_out_cross_entropy", 3.75}}}});
  return log;
}

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
