#include "schmidt/io/json.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "schmidt/base/format_error.h"

#include "tests/io/expect_error.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

using test::expect_error;

nlohmann::json parse(std::string_view text) { return parse_json(text, "x.json"); }

TEST(Json, ReadsWhatTheStandardAllows) {
  const auto value = parse(R"( {"a": [1, -2, 2.5, true, null, "\u00e9 é"], "b": {"c": {}}} )");
  EXPECT_EQ(value.dump(), R"({"a":[1,-2,2.5,true,null,"é é"],"b":{"c":{}}})");
  EXPECT_EQ(parse("18446744073709551615").get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parse(R"({"a":{"k":1},"b":{"k":2}})").at("b").at("k"), 2);
}

TEST(Json, RefusesARepeatedKey) {
  expect_error<FormatError>([] { parse(R"({"a": 1, "b": 2, "a": 3})"); }, "x.json: a: expected");
  expect_error<FormatError>([] { parse(R"([{"x": {"a": 1, "\u0061": 3}}])"); }, "found it twice");
}

TEST(Json, RefusesDeepNesting) {
  const std::string deep(1'000'000, '[');
  expect_error<FormatError>([&] { parse(deep); }, "at most 64 nested levels");
  EXPECT_NO_THROW(parse(std::string(64, '[') + std::string(64, ']')));
  expect_error<FormatError>([&] { parse(std::string(65, '[') + std::string(65, ']')); }, "nested");
}

TEST(Json, RefusesInvalidUtf8) {
  for (const char* text : {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xe2\x82\"",
                           "\"\xf5\x80\x80\x80\"", R"("\ud800")"}) {
    expect_error<FormatError>([&] { parse(text); }, "not valid JSON");
  }
}

TEST(Json, RefusesWhatIsNotOneValue) {
  for (const char* text :
       {"", " ", "{", "{}{}", "[1,]", "{\"a\":}", "NaN", "Infinity", "1e999", "tru", "'a'"}) {
    expect_error<FormatError>([&] { parse(text); }, "x.json");
  }
}

TEST(Json, WhatPythonWritesOfNumbersThatAreNoneIsNullInFiles) {
  const auto read = [](const char* text) {
    return parse_json(text, "x.json", {.non_finite_is_null = true});
  };
  EXPECT_EQ(read(R"({"a": [NaN, Infinity, -Infinity, 1], "NaN": "say \"NaN\" \\"})"),
            nlohmann::json::parse(R"({"a": [null, null, null, 1], "NaN": "say \"NaN\" \\"})"));
  EXPECT_EQ(read("NaN"), nlohmann::json());
  EXPECT_THROW(read("[NaNa]"), FormatError);
  const test::TemporaryFolder folder;
  test::write_file(folder / "config.json", R"({"limit": [0.0, Infinity]})");
  EXPECT_TRUE(read_json(folder / "config.json")["limit"][1].is_null());
}

TEST(Json, DoesNotRepeatALongFileInItsMessage) {
  const std::string open = "\"" + std::string(100'000, 'a');
  try {
    parse(open);
    FAIL() << "expected an error";
  } catch (const FormatError& e) {
    EXPECT_LT(std::string(e.what()).size(), 300U);
  }
}

TEST(Json, RefusesATextBeyondTheLimit) {
  expect_error<FormatError>([] { parse_json("[1, 2]", "x.json", {.max_bytes = 5}); }, "at most 5");
}

TEST(Json, ReadsAFile) {
  test::TemporaryFolder tmp;
  test::write_file(tmp / "a.json", R"({"a": 1})");
  test::write_file(tmp / "b.json", "[]");
  EXPECT_EQ(read_json_object(tmp / "a.json").at("a"), 1);
  expect_error<FormatError>([&] { read_json_object(tmp / "b.json"); }, "expected a JSON object");
  expect_error<SystemError>([&] { read_json(tmp / "c.json"); }, "No such file");
  expect_error<FormatError>([&] { read_json(tmp.path()); }, "expected a regular file");
}

TEST(Json, WritesBytesThatAreNoText) {
  const nlohmann::json text = {{"a", {1, "\u00e9"}}};
  EXPECT_EQ(json_text(text), text.dump());
  EXPECT_EQ(json_text(text, 2), text.dump(2));
  const nlohmann::ordered_json bytes = {{"z\xff", {"caf\xe9", 1, nullptr}},
                                        {"a", {{"b", "\xc3\xa9\xc3"}}}};
  EXPECT_EQ(json_text(bytes),
            "{\"z\\\\xFF\":[\"caf\\\\xE9\",1,null],\"a\":{\"b\":\"\xc3\xa9\\\\xC3\"}}");
  EXPECT_EQ(parse(json_text(nlohmann::json(bytes)))["a"]["b"], "\xc3\xa9\\xC3");
}

TEST(Json, DoesNotWaitForAPipe) {
  test::TemporaryFolder tmp;
  ASSERT_EQ(::mkfifo((tmp / "pipe").c_str(), 0600), 0);
  expect_error<FormatError>([&] { read_json(tmp / "pipe"); }, "expected a regular file");
}

}  // namespace
}  // namespace schmidt::io
