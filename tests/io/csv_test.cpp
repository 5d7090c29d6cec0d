#include "schmidt/io/csv.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

using Rows = std::vector<std::vector<std::string>>;

TEST(Csv, FieldsAndLines) {
  EXPECT_EQ(parse_csv("a,b\nc,\n", "x.csv"), (Rows{{"a", "b"}, {"c", ""}}));
  EXPECT_EQ(parse_csv("a,b\r\nc,d", "x.csv"), (Rows{{"a", "b"}, {"c", "d"}}));
  EXPECT_EQ(parse_csv("\n\na\n\n", "x.csv"), (Rows{{"a"}}));
  EXPECT_EQ(parse_csv(",\n\"\"\n", "x.csv"), (Rows{{"", ""}, {""}}));
  EXPECT_EQ(parse_csv("", "x.csv"), Rows{});
}

TEST(Csv, QuotesHoldCommasBreaksAndQuotes) {
  EXPECT_EQ(parse_csv("\"a, b\",\"c\nd\"\n\"say \"\"no\"\"\",e\n", "x.csv"),
            (Rows{{"a, b", "c\nd"}, {"say \"no\"", "e"}}));
}

TEST(Csv, NamesTheLineOfABrokenQuote) {
  const auto message = [](const char* text) -> std::string {
    try {
      parse_csv(text, "x.csv");
    } catch (const FormatError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("a\nb,\"c").find("line 2"), std::string::npos);
  EXPECT_NE(message("a\"b").find("middle"), std::string::npos);
  EXPECT_NE(message("\"a\"b").find("closing"), std::string::npos);
}

}  // namespace
}  // namespace schmidt::io
