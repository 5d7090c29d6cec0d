#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/quant/format.h"

#include "tests/support/support.h"

// What the gguf package makes of the same numbers and the same blocks.

namespace schmidt::quant {
namespace {

std::map<std::string, torch::Tensor> oracle(const std::string& name) {
  return io::load_safetensors(test::oracle_dir() / "quant" / name);
}

TEST(FormatOracle, EncodesToTheSameBytes) {
  const auto truth = oracle("encoded.safetensors");
  const torch::Tensor values = truth.at("values");
  int64_t compared = 0;
  for (const Format& format : formats()) {
    if (!truth.contains(std::string(format.name))) continue;  // the package does not encode it
    SCOPED_TRACE(format.name);
    const torch::Tensor& expected = truth.at(std::string(format.name));
    torch::Tensor bytes = torch::empty_like(expected);
    ASSERT_EQ(bytes.numel(), values.numel() / format.values * format.bytes);
    format.encode(values.const_data_ptr<float>(), values.numel() / format.values,
                  bytes.mutable_data_ptr<uint8_t>());
    const torch::Tensor rows = bytes.ne(expected).any(1).nonzero();
    EXPECT_EQ(rows.numel(), 0) << "rows that differ: " << rows.flatten();
    ++compared;
  }
  EXPECT_EQ(compared, 8);
}

TEST(FormatOracle, TheDotProductIsThatOfTheDecodedRowInFloat64) {
  const auto truth = oracle("dots.safetensors");
  const float* x = truth.at("x").const_data_ptr<float>();
  for (const Format& format : formats()) {
    const std::string name(format.name);
    const torch::Tensor& blocks = truth.at(name + ".blocks");
    const torch::Tensor& dots = truth.at(name + ".dots");
    for (int64_t row = 0; row < blocks.size(0); ++row) {
      const double dot = format.dot(blocks[row].const_data_ptr<uint8_t>(),
                                    truth.at("x").numel() / format.values, x);
      EXPECT_NEAR(dot, dots[row].item<double>(),
                  1e-6 * truth.at(name + ".magnitudes")[row].item<double>())
          << name << " row " << row;
    }
  }
}

}  // namespace
}  // namespace schmidt::quant
