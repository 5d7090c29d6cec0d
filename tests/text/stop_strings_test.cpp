#include "schmidt/text/stop_strings.h"

#include <gtest/gtest.h>

namespace schmidt::text {
namespace {

// All that comes out when `text` is pushed in pieces of `size` bytes.
std::string stream(StopStrings stop, const std::string& text, size_t size) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += size) out += stop.push(text.substr(at, size));
  return out + stop.flush();
}

TEST(StopStrings, EndsBeforeTheFirstHoweverTheTextIsCut) {
  const StopStrings stop({"END", "\n\nUser:", "EN"});
  for (size_t size = 1; size < 12; ++size) {
    EXPECT_EQ(stream(stop, "one\n\nUser: two END", size), "one");
    EXPECT_EQ(stream(stop, "a E\n\nUs b", size), "a E\n\nUs b");
    EXPECT_EQ(stream(stop, "xENDy", size), "x");
  }
}

TEST(StopStrings, HoldsBackOnlyWhatCouldStop) {
  StopStrings stop({"abc"});
  EXPECT_EQ(stop.push("xxab"), "xx");
  EXPECT_EQ(stop.push("d"), "abd");
  EXPECT_EQ(stop.push("ab"), "");
  EXPECT_EQ(stop.push("c!"), "");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.flush(), "");
}

TEST(StopStrings, EmptyStringsStopNothing) {
  EXPECT_EQ(stream(StopStrings({""}), "all", 1), "all");
}

}  // namespace
}  // namespace schmidt::text
