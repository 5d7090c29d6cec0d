#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"

// Hostile files, numbered by the case in the list of what must not break the program.

namespace schmidt::io {
namespace {

using test::safetensors;
using test::u64;

const std::string kHeader = R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})";

void expect_refused(const std::string& bytes, const std::string& reason) {
  test::expect_error<FormatError>([&] { parse_safetensors(bytes, "x.safetensors"); }, reason);
}

void expect_header_refused(const std::string& header, size_t data_bytes,
                           const std::string& reason) {
  SCOPED_TRACE(header);
  expect_refused(safetensors(header, data_bytes), reason);
}

TEST(SafetensorsHostile, TheFileThatTheCasesSpoilIsGood) {
  const auto header = parse_safetensors(safetensors(kHeader, 16), "x.safetensors");
  EXPECT_EQ(header.tensors.at("a").shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(header.tensors.at("a").begin, 8 + kHeader.size());
}

TEST(SafetensorsHostile, AFileTruncatedAnywhereIsRefused) {
  const std::string whole = safetensors(kHeader, 16);
  for (size_t size = 0; size < whole.size(); ++size) {
    expect_refused(whole.substr(0, size), "expected");
  }
  expect_refused(whole.substr(0, whole.size() - 1), "it is cut short");
}

TEST(SafetensorsHostile, AHeaderLengthBeyondTheFileIsRefused) {
  expect_refused(u64(1000) + kHeader, "expected 1000 bytes of header, found 57");
}

TEST(SafetensorsHostile, AHeaderOver100MegabytesIsRefused) {
  expect_refused(u64(100'000'001) + kHeader, "expected a header of at most 100000000 bytes");
  expect_refused(u64(UINT64_MAX) + kHeader, "found 18446744073709551615");
}

TEST(SafetensorsHostile, OffsetsThatOverlapOrLeaveHolesAreRefused) {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  EXPECT_NO_THROW(parse_safetensors(safetensors(two("[4,8]", "[0,4]"), 8), "x"));
  expect_header_refused(two("[0,4]", "[2,6]"), 6, "it overlaps another tensor's");
  expect_header_refused(two("[0,4]", "[0,4]"), 4, "it overlaps another tensor's");
  expect_header_refused(two("[0,4]", "[5,9]"), 9, "there is a hole before it");
  expect_header_refused(two("[1,5]", "[5,9]"), 9, "there is a hole before it");
  expect_header_refused(two("[0,4]", "[8,4]"), 8, "found offsets 8 to 4");
}

TEST(SafetensorsHostile, AShapeWhoseProductOverflowsIsRefused) {
  const auto shaped = [](const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  expect_header_refused(shaped("[4294967296,4294967296]", "[0,0]"), 0, "fewer than 2^64 bytes");
  expect_header_refused(shaped("[4611686018427387905]", "[0,4]"), 4, "fewer than 2^64 bytes");
  expect_header_refused(shaped("[9223372036854775808,0]", "[0,0]"), 0, "fewer than 2^64 bytes");
  expect_header_refused(shaped("[-1]", "[0,4]"), 4, "sizes and offsets of 0 or more");
  expect_header_refused(shaped("[1.5]", "[0,6]"), 6, "sizes and offsets of 0 or more");
  expect_header_refused(shaped("[1]", "[18446744073709551612,18446744073709551616]"), 4,
                        "sizes and offsets");
  expect_header_refused(shaped("[1]", "[18446744073709551611,18446744073709551615]"), 4,
                        "beyond 2^64");
}

TEST(SafetensorsHostile, BrokenJsonIsRefused) {
  const std::string entry = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  expect_header_refused(R"({"a":)" + entry + R"(,"a":)" + entry + "}", 4, "found it twice");
  expect_header_refused(R"({"a":{"dtype":[[[[[[[[1]]]]]]]]}})", 4, "nested levels");
  expect_header_refused("{\"\xff\":" + entry + "}", 4, "not valid JSON");
  expect_header_refused("{\"a\":", 4, "not valid JSON");
  expect_header_refused("[]", 0, "a header that starts with {");
  expect_header_refused(" {}", 0, "a header that starts with {");
  expect_header_refused("{}x", 0, "not valid JSON");
  EXPECT_NO_THROW(parse_safetensors(safetensors("{}   ", 0), "x"));
}

TEST(SafetensorsHostile, ADtypeThatDisagreesWithTheSizeIsRefused) {
  const auto typed = [](const std::string& dtype, const std::string& end) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":[4],"data_offsets":[0,)" + end + "]}}";
  };
  expect_header_refused(typed(R"("F32")", "15"), 15, "expected 16 bytes for its dtype and shape");
  expect_header_refused(typed(R"("F99")", "16"), 16, "a: unknown dtype F99");
  expect_header_refused(typed("7", "16"), 16, "expected dtype as string, found number");
  expect_header_refused(typed(R"("F32")", "16"), 17, "bytes trail the data");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[4]}})", 4, "data_offsets as array, found");
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4, "two");
  expect_header_refused(R"({"a":7})", 4, "expected an object");
  expect_header_refused(R"({"__metadata__":{"format":1}})", 0, "expected strings only");
  expect_header_refused(R"({"__metadata__":"pt"})", 0, "expected an object");
}

}  // namespace
}  // namespace schmidt::io
