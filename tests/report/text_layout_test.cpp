#include "schmidt/report/text_layout.h"

#include <gtest/gtest.h>

namespace schmidt::report {
namespace {

using Lines = std::vector<std::string>;

TEST(TextLayout, BreaksBetweenWordsAndInsideOfLongOnes) {
  const double four = text_width("four", 10);
  EXPECT_EQ(wrapped("four more", four, 10), (Lines{"four", "more"}));
  EXPECT_EQ(wrapped("four more", text_width("four more", 10), 10), Lines{"four more"});
  EXPECT_EQ(wrapped("a longer_word", four, 10), (Lines{"a", "long", "er_w", "ord"}));
  EXPECT_EQ(wrapped("", four, 10), Lines{""});
  EXPECT_EQ(wrapped("  a  b ", four, 10), Lines{"a b"});
}

TEST(TextLayout, NeverBreaksACharacterAndAlwaysEnds) {
  EXPECT_EQ(wrapped("\u6f22\u5b57", 1.0, 10), (Lines{"\u6f22", "\u5b57"}));
  EXPECT_GT(text_width("\u6f22", 10), text_width("a", 10));
  EXPECT_DOUBLE_EQ(text_width("\u00e4", 10), text_width("a", 10));
}

}  // namespace
}  // namespace schmidt::report
