#include "schmidt/text/regex.h"

#include <chrono>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::text {
namespace {

std::vector<std::string> matches(const char* pattern, const std::string& text) {
  std::vector<std::string> found;
  for (const Span& s : Regex(pattern).find_all(text)) {
    found.push_back(text.substr(s.begin, s.end - s.begin));
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Regex, TakesWhiteSpaceFromUnicodeAndNotFromPerl) {
  // U+180E has not been white space since Unicode 6.3; PCRE2's \s still holds it.
  EXPECT_EQ(matches(R"(\s)", "\u180E\u00A0\u3000\u200B"), (Strings{"\u00A0", "\u3000"}));
  EXPECT_EQ(matches(R"([^\S\u3000])", "a\u3000\u2009"), Strings{"\u2009"});
}

TEST(Regex, KnowsLettersOfLaterUnicode) {
  EXPECT_EQ(matches(R"(\p{L}+)", "a\U00031350b"), Strings{"a\U00031350b"});
  EXPECT_EQ(matches(R"([^\p{L}]+)", "a\U00031350-"), Strings{"-"});
}

TEST(Regex, FoldsCaseBeyondAscii) {
  EXPECT_EQ(matches(R"((?i:'s))", "'s 'S '\u017F"), (Strings{"'s", "'S", "'\u017F"}));
}

TEST(Regex, CountsEmptyMatchesButNotBehindAMatch) {
  const std::vector<Span> expected{{0, 0}, {1, 3}, {4, 4}};
  EXPECT_EQ(Regex("a*").find_all("baab"), expected);
}

TEST(Regex, ReadsOnigurumasDialect) {
  EXPECT_EQ(matches("a{,2}b", "aaab"), Strings{"aab"});
  EXPECT_EQ(matches("(?m:a.b)", "a\nb"), Strings{"a\nb"});
  EXPECT_EQ(matches("a.b", "a\nb"), Strings{});
  EXPECT_EQ(matches("^b$", "a\nb\nc"), Strings{"b"});
  EXPECT_EQ(matches(R"(\h+)", "xyzBEEF g"), Strings{"BEEF"});
  EXPECT_EQ(matches(R"(\u3042[\u3044-\u3046])", "\u3042\u3045"), Strings{"\u3042\u3045"});
  EXPECT_EQ(matches(R"(\b\w+\b)", "a\u0301 b2, c"), (Strings{"a\u0301", "b2", "c"}));
}

TEST(Regex, RefusesWhatTheDialectsReadDifferently) {
  for (const char* pattern : {"[a&&b]", "[a[bc]]", "[[:alpha:]]", "a{2}+", R"([\W])", "(?x: a)",
                              "[a", "(a", "*", R"(\p{Nonsense})", R"(\pL)", R"(\u12)"}) {
    EXPECT_THROW(Regex{pattern}, c10::ValueError) << pattern;
  }
}

TEST(Regex, GivesUpOnCatastrophicBacktracking) {
  const auto start = std::chrono::steady_clock::now();
  const Regex hostile("(a+)+b|(?:a|aa)+c");
  EXPECT_THROW(hostile.find_all(std::string(5000, 'a')), c10::ValueError);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Regex, WalksLongRunsOfOneKind) {
  constexpr const char* kWords =
      R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  for (const char c : {'a', ' ', '\n', '!'}) {
    EXPECT_EQ(matches(kWords, std::string(100'000, c)).size(), 1u) << c;
  }
}

}  // namespace
}  // namespace schmidt::text
