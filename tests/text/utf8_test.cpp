#include "schmidt/text/utf8.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

constexpr const char* kFffd = "\xEF\xBF\xBD";

std::string replacements(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += kFffd;
  return text;
}

TEST(Utf8, EncodesAndDecodesEveryCharacter) {
  for (char32_t c = 0; c < 0x110000; c = c == 0xD7FF ? 0xE000 : c + 1) {
    std::string text = "x";
    append_utf8(text, c);
    const CodePoint forward = code_point_at(text, 1),
                    backward = code_point_before(text, text.size());
    ASSERT_EQ(forward.value, c);
    ASSERT_EQ(backward.value, c);
    ASSERT_EQ(static_cast<size_t>(forward.length), text.size() - 1);
    ASSERT_TRUE(is_valid_utf8(text));
  }
}

// The examples of Unicode 15, tables 3-8 to 3-11.
TEST(Utf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(to_valid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), replacements(8) + "A");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), replacements(8) + "A");
  EXPECT_EQ(to_valid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            replacements(5) + "A" + replacements(2) + "B");
  EXPECT_EQ(to_valid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), replacements(4) + "A");
}

TEST(Utf8, RefusesSurrogatesLongFormsAndWhatLiesBeyondUnicode) {
  for (const char* bytes : {"\xED\xA0\x80", "\xC1\x81", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80", "\xFF", "\x80", "a\xE2\x82"}) {
    EXPECT_FALSE(is_valid_utf8(bytes)) << bytes;
  }
}

TEST(Utf8, HoldsBackOnlyAnUnfinishedCharacter) {
  EXPECT_EQ(settled_prefix(""), 0u);
  EXPECT_EQ(settled_prefix("abc"), 3u);
  EXPECT_EQ(settled_prefix("ab\xF0\x9F\x98"), 2u);
  EXPECT_EQ(settled_prefix("ab\xF0\x9F\x98\x80"), 6u);
  EXPECT_EQ(settled_prefix("ab\xE2"), 2u);
  // Whatever follows, these are no beginnings.
  EXPECT_EQ(settled_prefix("ab\xED\xA0"), 4u);
  EXPECT_EQ(settled_prefix("ab\x80\x80"), 4u);
  EXPECT_EQ(settled_prefix("a\xC0"), 2u);
}

TEST(Utf8, TextOfOtherEncodingsIsToldWithItsPlace) {
  using namespace std::string_view_literals;
  const auto error = [](std::string_view bytes) -> std::string {
    try {
      utf8_text(bytes, "a.txt");
    } catch (const FormatError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error("caf\xE9 au lait"), "a.txt: byte 3: expected UTF-8, got the byte 0xE9");
  EXPECT_EQ(error("ab\xE2\x82"), "a.txt: byte 2: expected UTF-8, got the byte 0xE2");
  for (const std::string_view wide :
       {"\xFF\xFEh\0i\0"sv, "\xFE\xFF\0h\0i"sv, "h\0i\0!\0"sv, "\0h\0i"sv}) {
    EXPECT_EQ(error(wide), "a.txt: byte 0: expected UTF-8, got what looks like UTF-16");
  }
  EXPECT_NE(error("\xFF\xFE\0\0h\0\0\0"sv).find("UTF-32"), std::string::npos);
  EXPECT_EQ(utf8_text("\xEF\xBB\xBFtext", "a.txt"), "text");
  EXPECT_EQ(utf8_text("", "a.txt"), "");
  EXPECT_EQ(utf8_text("a\0b"sv, "a.txt"), "a\0b"sv);
}

}  // namespace
}  // namespace schmidt::text
