#include "schmidt/io/gguf.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/quant/format.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"
#include "tests/support/support.h"

// Hostile files are case 13 of the list of what must not break the program.

namespace schmidt::io {
namespace {

using test::expect_error;
using test::gguf;
using test::gguf_entry;
using test::gguf_tensor;
using test::gguf_text;
using test::le;
using test::u32;
using test::u64;

// GGUF's ids of value types and ggml's of formats, as far as needed here.
constexpr uint32_t kU8 = 0, kU32 = 4, kF32Value = 6, kBool = 7, kText = 8, kArray = 9, kU64 = 10;
constexpr uint32_t kF32 = 0, kQ4_0 = 2, kIQ2 = 16;

GgufFile parse(const std::string& bytes) { return GgufFile::parse(bytes, "x.gguf"); }

void expect_refused(const std::string& bytes, const std::string& reason) {
  expect_error<FormatError>([&] { parse(bytes); }, reason);
}

const std::string kGood =
    gguf({gguf_entry("a", kU32, u32(7)), gguf_entry("t", kText, gguf_text("x"))},
         {gguf_tensor("w", {32, 2}, kQ4_0, 0), gguf_tensor("v", {4}, kF32, 64)}, 80);

TEST(Gguf, ReadsMetadataAndTensors) {
  const GgufFile file = parse(kGood);
  EXPECT_EQ(file.get_int("a"), 7);
  EXPECT_EQ(file.get_string("t"), "x");
  EXPECT_EQ(file.get_string("absent"), std::nullopt);
  const GgufTensor& w = file.tensors().at("w");
  EXPECT_EQ(w.shape, (std::vector<int64_t>{2, 32}));  // row-major
  EXPECT_EQ(w.format->name, "Q4_0");
  EXPECT_EQ(w.bytes.size(), 36U);
  EXPECT_EQ(file.tensors().at("v").bytes.data() - w.bytes.data(), 64);
}

TEST(Gguf, AValueOfAnotherTypeIsTheFilesMistake) {
  const GgufFile file = parse(kGood);
  expect_error<FormatError>([&] { file.get_string("a"); },
                            "x.gguf: metadata a: expected a string, found an integer");
  expect_error<FormatError>([&] { file.get_strings("t"); }, "found a string");
}

TEST(Gguf, AFileTruncatedAnywhereIsRefused) {
  for (size_t size = 0; size < kGood.size(); ++size)
    expect_refused(kGood.substr(0, size), "expected");
}

TEST(Gguf, AWrongMagicOrVersionIsRefused) {
  expect_refused("GGML" + kGood.substr(4), "the magic bytes GGUF");
  expect_refused("GGUF" + u32(1) + kGood.substr(8), "expected version 2 or 3, found 1");
  expect_refused("GGUF" + u32(0) + kGood.substr(8), "expected version 2 or 3, found 0");
  expect_refused("GGUF" + u32(3U << 24) + kGood.substr(8), "found a big-endian one");
  EXPECT_NO_THROW(parse("GGUF" + u32(2) + kGood.substr(8)));
}

TEST(Gguf, CountsBeyondTheFileAreRefused) {
  const std::string head = "GGUF" + u32(3);
  for (const uint64_t count : {uint64_t{1} << 63, UINT64_MAX, uint64_t{1} << 32, uint64_t{100}}) {
    expect_refused(head + u64(count) + u64(0) + std::string(64, '\0'), "tensors in this file");
    expect_refused(head + u64(0) + u64(count) + std::string(64, '\0'), "metadata entries in this");
    for (const uint32_t type : {kU8, kU64, kText, kArray}) {
      expect_refused(gguf({gguf_entry("a", kArray, u32(type) + u64(count))}, {}, 0),
                     "items in this file");
    }
  }
}

TEST(Gguf, WrongStringLengthsAreRefused) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 40, UINT64_MAX}) {
    expect_refused(gguf({gguf_entry("a", kText, u64(length) + "x")}, {}, 0),
                   "metadata a: expected");
    expect_refused(gguf({u64(length) + "key"}, {}, 0), "metadata entry 0: expected");
    expect_refused(gguf({}, {u64(length) + "name" + std::string(24, '\0')}, 0),
                   "tensor 0: expected");
  }
}

TEST(Gguf, UnknownTypesAreRefused) {
  expect_refused(gguf({gguf_entry("a", 13, u32(0))}, {}, 0), "a value type below 13, found 13");
  expect_refused(gguf({gguf_entry("a", kArray, u32(99) + u64(0))}, {}, 0), "found 99");
  expect_refused(gguf({}, {gguf_tensor("w", {256}, kIQ2, 0)}, 256),
                 "tensor w: expected one of F32, F16, BF16, Q4_0, ");
  expect_refused(gguf({gguf_entry("a", kBool, "\2")}, {}, 0), "expected 0 or 1 for a bool");
  expect_refused(gguf({gguf_entry("a", kU64, u64(1ULL << 63))}, {}, 0), "below 2^63");
}

TEST(Gguf, ABadAlignmentIsRefused) {
  const auto aligned = [](uint32_t alignment) {
    return gguf({gguf_entry("general.alignment", kU32, u32(alignment))},
                {gguf_tensor("w", {4}, kF32, 0)}, 4096);
  };
  EXPECT_NO_THROW(parse(aligned(64)));
  for (const uint32_t alignment : {0U, 3U, 33U, UINT32_MAX}) {
    expect_refused(aligned(alignment), "expected a power of two up to 2^31, found");
  }
  expect_refused(aligned(1U << 31), "tensor w: expected 16 bytes at offset 0");
  expect_refused(gguf({gguf_entry("general.alignment", kText, gguf_text("32"))}, {}, 0),
                 "found another type");
  expect_refused(gguf({}, {gguf_tensor("w", {4}, kF32, 4)}, 64), "a multiple of 32, found 4");
}

TEST(Gguf, TensorsBeyondTheFileAreRefused) {
  expect_refused(gguf({}, {gguf_tensor("w", {5}, kF32, 0)}, 16), "expected 20 bytes at offset 0");
  for (const uint64_t offset : {uint64_t{32}, uint64_t{1} << 63, UINT64_MAX - 31}) {
    expect_refused(gguf({}, {gguf_tensor("w", {4}, kF32, offset)}, 16),
                   "at offset " + std::to_string(offset));
  }
}

TEST(Gguf, AShapeWhoseProductOverflowsIsRefused) {
  const auto shaped = [](const std::vector<uint64_t>& sizes) {
    return gguf({}, {gguf_tensor("w", sizes, kF32, 0)}, 64);
  };
  const std::string reason = "expected sizes of 1 or more and a product below 2^63";
  expect_refused(shaped({1ULL << 32, 1ULL << 31}), reason);
  expect_refused(shaped({1ULL << 63}), reason);
  expect_refused(shaped({UINT64_MAX}), reason);
  expect_refused(shaped({4, 0}), reason);
  expect_refused(shaped({1ULL << 62}), "fewer than 2^64 bytes");
  expect_refused(shaped({}), "expected 1 to 4 dimensions, found 0");
  expect_refused(shaped({1, 1, 1, 1, 1}), "expected 1 to 4 dimensions, found 5");
  expect_refused(gguf({}, {gguf_tensor("w", {16, 2}, kQ4_0, 0)}, 64),
                 "expected rows of a multiple of 32 values for Q4_0, found 16");
}

TEST(Gguf, OverlappingAndRepeatedTensorsAreRefused) {
  const std::string w = gguf_tensor("w", {16}, kF32, 0);
  expect_refused(gguf({}, {w, gguf_tensor("v", {16}, kF32, 32)}, 96),
                 "expected an offset of at least 64");
  expect_refused(gguf({}, {w, gguf_tensor("w", {16}, kF32, 64)}, 128), "found it twice");
  const std::string a = gguf_entry("a", kU32, u32(1));
  expect_refused(gguf({a, a}, {}, 0), "metadata a: expected a key once, found it twice");
}

TEST(Gguf, DeeplyNestedArraysAreRefused) {
  std::string value;
  for (int i = 0; i < 1000; ++i) value += u32(kArray) + u64(1);
  expect_refused(gguf({gguf_entry("a", kArray, value + u32(kU8) + u64(0))}, {}, 0),
                 "at most 8 nested arrays");
}

TEST(Gguf, OpensAFileAndKeepsItMapped) {
  test::TemporaryFolder tmp;
  test::write_file(tmp / "a.gguf", gguf({gguf_entry("f", kF32Value, le(0.5F))},
                                        {gguf_tensor("v", {4}, kF32, 0)}, 16));
  const GgufFile copy = [&] { return GgufFile::open(tmp / "a.gguf"); }();
  std::filesystem::remove(tmp / "a.gguf");
  EXPECT_EQ(copy.get_float("f"), 0.5);
  EXPECT_EQ(copy.tensors().at("v").bytes, std::string(16, '\0'));
  expect_error<SystemError>([&] { GgufFile::open(tmp / "b.gguf"); }, "No such file");
}

}  // namespace
}  // namespace schmidt::io
