#include "schmidt/io/gguf_split.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using test::gguf_entry;
using test::le;

constexpr uint32_t kU16 = 2, kU32 = 4, kI32 = 5, kF32 = 0;

// A model of four tensors in three files; each tensor holds the number of its file.
class GgufSplit : public testing::Test {
 protected:
  struct Part {
    uint16_t number, count = 3;
    int32_t tensors = 4;
    std::vector<std::string> names;
  };

  GgufSplit() {
    write(1, {.number = 0, .names = {}});
    write(2, {.number = 1, .names = {"a", "b"}});
    write(3, {.number = 2, .names = {"c", "d"}});
  }

  fs::path file(int number) const { return tmp / fmt::format("m-{:05}-of-00003.gguf", number); }

  void write(int file_number, const Part& part) const {
    std::vector<std::string> entries = {gguf_entry("split.no", kU16, le(part.number)),
                                        gguf_entry("split.count", kU16, le(part.count)),
                                        gguf_entry("split.tensors.count", kI32, le(part.tensors))};
    if (part.number == 0) entries.push_back(gguf_entry("only.in.the.first", kU32, le(7U)));
    std::vector<std::string> tensors;
    for (const std::string& name : part.names) {
      tensors.push_back(test::gguf_tensor(name, {8}, kF32, 32 * tensors.size()));
    }
    std::string bytes = test::gguf(entries, tensors, 32 * tensors.size());
    const auto data = static_cast<std::ptrdiff_t>(bytes.size() - 32 * tensors.size());
    std::fill(bytes.begin() + data, bytes.end(), static_cast<char>(file_number));
    test::write_file(file(file_number), bytes);
  }

  void expect_refused(int named, const std::string& reason) const {
    test::expect_error<FormatError>([&] { GgufFile::open(file(named)); }, reason);
  }

  test::TemporaryFolder tmp;
};

TEST_F(GgufSplit, IsOneModelWhicheverPartIsNamed) {
  for (const int named : {1, 2, 3}) {
    const GgufFile model = GgufFile::open(file(named));
    EXPECT_EQ(model.path(), file(1));
    EXPECT_EQ(model.get_int("only.in.the.first"), 7);
    ASSERT_EQ(model.tensors().size(), 4U);
    EXPECT_EQ(model.tensors().at("b").bytes, std::string(32, '\2'));
    EXPECT_EQ(model.tensors().at("c").bytes, std::string(32, '\3'));
  }
  EXPECT_EQ(GgufFile::open_part(file(2)).tensors().size(), 2U);
}

TEST_F(GgufSplit, StaysMappedWhereItsFilesAreRemoved) {
  const GgufFile model = GgufFile::open(file(2));
  for (const int number : {1, 2, 3}) fs::remove(file(number));
  EXPECT_EQ(model.tensors().at("d").bytes, std::string(32, '\3'));
}

TEST_F(GgufSplit, NamesThePartThatIsMissing) {
  fs::remove(file(2));
  for (const int named : {1, 3}) {
    expect_refused(named, "m-00002-of-00003.gguf: expected part 2 of a model in 3 files, found no");
  }
  fs::create_symlink("nowhere", file(2));  // as in a cache that was cleaned
  expect_refused(1, "m-00002-of-00003.gguf: expected part 2");
}

TEST_F(GgufSplit, NamesThePartThatDoesNotBelong) {
  write(2, {.number = 2, .names = {"a", "b"}});
  expect_refused(1, "m-00002-of-00003.gguf: metadata split.no: expected 1, as the file's name");
  expect_refused(2, "m-00002-of-00003.gguf: expected a name that ends in -00003-of-00003.gguf");
  write(2, {.number = 1, .count = 4, .names = {"a", "b"}});
  expect_refused(1, "m-00002-of-00003.gguf: metadata split.count: expected 3, as the file's name");
  expect_refused(2, "expected a name that ends in -00002-of-00004.gguf");
  test::write_file(file(2), test::gguf({}, {}, 0));
  expect_refused(1, "m-00002-of-00003.gguf: metadata split.count: expected a value in one part");
  test::write_file(file(2), "GGUF");
  expect_refused(1, "m-00002-of-00003.gguf: header");
}

TEST_F(GgufSplit, TheTensorsAddUp) {
  write(2, {.number = 1, .names = {"a"}});
  expect_refused(1, "expected 4 tensors in the 3 parts of the model, found 3");
  write(2, {.number = 1, .tensors = 5, .names = {"a", "b"}});
  expect_refused(1, "m-00002-of-00003.gguf: metadata split.tensors.count: expected 5 tensors");
  write(2, {.number = 1, .names = {"a", "c"}});
  expect_refused(1, "tensor c: expected a tensor in one part, found it in another one too");
}

TEST_F(GgufSplit, ARenamedPartSaysWhatItIs) {
  fs::rename(file(1), tmp / "model.gguf");
  test::expect_error<FormatError>([&] { GgufFile::open(tmp / "model.gguf"); },
                                  "the file is part 1 of a model in 3");
}

TEST_F(GgufSplit, NumbersThatAreNone) {
  write(1, {.number = 3, .names = {}});
  expect_refused(1, "metadata split.no: expected 0 to 2, found 3");
  test::write_file(file(1), test::gguf({gguf_entry("split.count", kI32, le(-3))}, {}, 0));
  expect_refused(1, "metadata split.count: expected 0 to 65535, found -3");
  test::write_file(file(1), test::gguf({gguf_entry("split.count", kU16, le(uint16_t{3}))}, {}, 0));
  expect_refused(1, "metadata split.no: expected a value in one part of a model, found none");
}

// gguf-split --merge leaves a count of 0.
TEST_F(GgufSplit, ACountBelowTwoIsAWholeModel) {
  for (const uint16_t count : {0, 1}) {
    write(1, {.number = 0, .count = count, .names = {"a", "b", "c", "d"}});
    EXPECT_EQ(GgufFile::open(file(1)).tensors().size(), 4U);
  }
}

}  // namespace
}  // namespace schmidt::io
