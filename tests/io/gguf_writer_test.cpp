#include "schmidt/io/gguf_writer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/tensor_data.h"

#include "tests/support/support.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, GgufValue>;

const quant::Format& format(std::string_view name) { return *quant::find_format(name); }

class GgufWriterTest : public testing::Test {
 protected:
  GgufFile written(const Metadata& metadata, const std::vector<GgufTensorSpec>& specs = {},
                   const std::vector<std::string>& bytes = {}) {
    GgufWriter writer(path, metadata, specs);
    for (size_t i = 0; i < specs.size(); ++i) writer.write(specs[i].name, bytes[i]);
    writer.finish();
    return GgufFile::open(path);
  }

  test::TemporaryFolder tmp;
  fs::path path = tmp / "a.gguf";
};

TEST_F(GgufWriterTest, ValuesOfEveryKindAreReadBackInTheirTypes) {
  const GgufArrays arrays = {{std::vector<int64_t>{1, 2}, 0U}, {std::vector<std::string>{"é"}}};
  const Metadata metadata = {{"bool", {true}},
                             {"int", {int64_t{7}}},
                             {"negative", {int64_t{-7}}},
                             {"large", {int64_t{1} << 40}},
                             {"narrow", {int64_t{-3}, 3U}},
                             {"float", {0.1F}},
                             {"double", {0.1}},
                             {"text", {std::string("a\0b\n", 4)}},
                             {"bools", {std::vector<bool>{true, false}}},
                             {"ints", {std::vector<int64_t>{1, -2}}},
                             {"bytes", {std::vector<int64_t>{1, 255}, 0U}},
                             {"floats", {std::vector<float>{0.5F, -1.25F}}},
                             {"doubles", {std::vector<double>{}}},
                             {"texts", {std::vector<std::string>{"", "ß"}}},
                             {"arrays", {arrays}}};
  const std::map<std::string, uint32_t> types = {
      {"bool", 7},  {"int", 4},     {"negative", 5}, {"large", 10}, {"narrow", 3},
      {"float", 6}, {"double", 12}, {"text", 8},     {"bools", 7},  {"ints", 5},
      {"bytes", 0}, {"floats", 6},  {"doubles", 12}, {"texts", 8},  {"arrays", 9}};
  const GgufFile file = written(metadata);
  ASSERT_EQ(file.metadata().size(), metadata.size());
  for (const auto& [key, value] : metadata) {
    const GgufValue& read = file.metadata().at(key);
    EXPECT_EQ(read.type, types.at(key)) << key;
    if (key != "arrays") {
      EXPECT_TRUE(read.data == value.data) << key;
    }
  }
  const auto& read = std::get<GgufArrays>(file.metadata().at("arrays").data);
  ASSERT_EQ(read.size(), 2U);
  EXPECT_TRUE(read[0].data == arrays[0].data && read[1].data == arrays[1].data);
  EXPECT_EQ(read[0].type, 0U);

  // Written again as it was read, it is the same file.
  const std::string bytes = test::read_file(path);
  written(GgufFile::open(path).metadata());
  EXPECT_EQ(test::read_file(path), bytes);
}

TEST_F(GgufWriterTest, TensorsAreReadBackBitForBitAtTheAlignmentAskedFor) {
  for (const int64_t alignment : {0, 8, 256}) {
    Metadata metadata;
    if (alignment != 0) metadata["general.alignment"] = {alignment};
    const torch::Tensor values = torch::randn({3, 2, 256});
    std::vector<GgufTensorSpec> specs;
    std::vector<std::string> bytes;
    for (const quant::Format& f : quant::formats()) {
      specs.push_back({std::string(f.name), {3, 2, 256}, &f});
      bytes.push_back(encode_tensor(values, f, "values"));
    }
    specs.push_back({"one", {1}, &format("F32")});
    bytes.push_back(encode_tensor(torch::ones({1}), format("F32"), "one"));
    const GgufFile file = written(metadata, specs, bytes);
    for (size_t i = 0; i < specs.size(); ++i) {
      const GgufTensor& tensor = file.tensors().at(specs[i].name);
      EXPECT_EQ(tensor.format, specs[i].format);
      EXPECT_EQ(tensor.shape, specs[i].shape);
      EXPECT_EQ(tensor.bytes, bytes[i]);
      const int64_t expected = alignment == 0 ? 32 : alignment;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % expected, 0U);
    }
  }
}

TEST_F(GgufWriterTest, WhatWasNotDeclaredIsRefusedAndNoFileIsLeft) {
  const GgufTensorSpec spec{"t", {2, 32}, &format("Q8_0")};
  {
    GgufWriter writer(path, {}, {spec});
    EXPECT_THROW(writer.write("u", std::string(68, 'x')), c10::ValueError);
    EXPECT_THROW(writer.write("t", std::string(67, 'x')), c10::ValueError);
    EXPECT_THROW(writer.finish(), c10::ValueError);
  }
  EXPECT_TRUE(fs::is_empty(tmp.path()));
  EXPECT_THROW(GgufWriter(path, {}, {spec, spec}), c10::ValueError);
  EXPECT_THROW(GgufWriter(path, {{"general.alignment", {int64_t{3}}}}, {}), c10::ValueError);
  for (const auto& shape : std::vector<std::vector<int64_t>>{
           {}, {0}, {2, 33}, {1, 1, 1, 1, 32}, {int64_t{1} << 40, int64_t{1} << 40, 32}}) {
    EXPECT_THROW(gguf_tensor_bytes({"t", shape, &format("Q8_0")}), c10::ValueError);
  }
  EXPECT_TRUE(fs::is_empty(tmp.path()));
}

TEST_F(GgufWriterTest, EncodingRefusesWhatItsFormatCannotHold) {
  const torch::Tensor values = torch::ones({2, 32});
  EXPECT_THROW(encode_tensor(values, format("Q4_K"), "t"), c10::ValueError);  // blocks of 256
  EXPECT_THROW(encode_tensor(torch::ones({2, 33}), format("Q4_0"), "t"), c10::ValueError);
  EXPECT_THROW(encode_tensor(values * 1e6, format("F16"), "t"), c10::ValueError);
  EXPECT_THROW(encode_tensor(values * NAN, format("Q8_0"), "t"), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::io
