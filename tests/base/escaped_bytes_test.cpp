#include "schmidt/base/escaped_bytes.h"

#include <gtest/gtest.h>

namespace schmidt {
namespace {

TEST(EscapedBytes, LeavesTextAloneAndShowsOtherBytes) {
  EXPECT_EQ(escaped_bytes(""), "");
  EXPECT_EQ(escaped_bytes("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(escaped_bytes("caf\xe9.txt"), "caf\\xE9.txt");
  EXPECT_EQ(escaped_bytes("\xe2\x82"), "\\xE2\\x82");                    // cut off
  EXPECT_EQ(escaped_bytes("\xc0\x80\xff"), "\\xC0\\x80\\xFF");           // overlong, never in UTF-8
  EXPECT_EQ(escaped_bytes("\xed\xa0\x80"), "\\xED\\xA0\\x80");           // half of a surrogate pair
  EXPECT_EQ(escaped_bytes("\xf4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80");  // beyond U+10FFFF
}

}  // namespace
}  // namespace schmidt
