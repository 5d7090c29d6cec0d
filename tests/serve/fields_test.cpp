#include "schmidt/serve/fields.h"

#include <gtest/gtest.h>

#include "schmidt/serve/api_error.h"

namespace schmidt::serve {
namespace {

std::string refused(const std::function<void()>& call) {
  try {
    call();
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status(), 400);
    const std::string message = e.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 400) << message;
    return message;
  }
  ADD_FAILURE() << "taken";
  return {};
}

TEST(Fields, BodiesAreStrictJson) {
  EXPECT_EQ(parse_body(R"({"a": [1, 2.5, "x"]})")["a"][0], 1);
  for (const std::string body :
       {"", "{", "[1]", "3", "null", "{\"a\": NaN}", "{\"a\": 1e999}", "{\"a\": 1, \"a\": 2}",
        "{\"a\": \"\xff\"}", "{\"a\": \"\xed\xa0\x80\"}", "{\"a\": 1} x", "{'a': 1}"}) {
    EXPECT_NE(refused([&] { parse_body(body); }), "") << body;
  }
  std::string deep = "{\"a\": ";
  deep.append(10'000, '[').append(10'000, ']').append("}");
  refused([&] { parse_body(deep); });
}

TEST(Fields, SayWhichFieldAndWhatWasExpected) {
  const nlohmann::json body = parse_body(
      R"({"n": 1000000, "big": 18446744073709551615, "real": 1.5, "text": 7, "flag": "yes",
          "none": null, "low": -1})");
  const Fields fields(body);
  EXPECT_EQ(refused([&] { fields.integer("n", 1, 128); }),
            "n: expected an integer in [1, 128], got 1000000");
  refused([&] { fields.integer("big", 0, INT64_MAX); });
  refused([&] { fields.integer("real", 0, 9); });
  refused([&] { fields.integer("low", 0, 9); });
  refused([&] { fields.number("text", 0, 0, 1); });
  refused([&] { fields.text("text", ""); });
  refused([&] { fields.flag("flag", false); });
  EXPECT_NE(refused([&] { fields.at("none"); }).find("none"), std::string::npos);
  EXPECT_FALSE(fields.integer("none", 0, 9).has_value());
  EXPECT_EQ(fields.text("absent", "x"), "x");
}

TEST(Fields, TokenIdsAreOfTheVocabulary) {
  EXPECT_EQ(token_ids(nlohmann::json::parse("[0, 9]"), 10, "p"), (std::vector<int64_t>{0, 9}));
  for (const char* list : {"[10]", "[-1]", "[1.0]", "[true]", "[\"1\"]", "[null]", "[[1]]", "7",
                           "[18446744073709551615]", "{\"a\": 1}"}) {
    refused([&] { token_ids(nlohmann::json::parse(list), 10, "p"); });
  }
}

}  // namespace
}  // namespace schmidt::serve
