#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/compress/integer_grid.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/quantized_matrix.h"

#include "tests/support/support.h"

// What compressed-tensors and bitsandbytes make of the same numbers.

namespace schmidt::compress {
namespace {

std::map<std::string, torch::Tensor> oracle(const std::string& name) {
  return io::load_safetensors(test::oracle_dir() / "rounding" / name);
}

/// Where a group is not all zeros: its scale says something.
torch::Tensor used_groups(const torch::Tensor& w, int64_t group) {
  return w.unflatten(1, {-1, group}).abs().amax(-1) > 0;
}

struct Packed {
  int bits;
  bool symmetric;
};

class CompressedTensors : public testing::TestWithParam<Packed> {
 protected:
  const torch::Tensor& part(const std::string& end) const {
    const auto [bits, symmetric] = GetParam();
    return truth_.at(fmt::format("int{}.{}.{}", bits, symmetric ? "symmetric" : "asymmetric", end));
  }

  std::map<std::string, torch::Tensor> truth_ = oracle("packed.safetensors");
  torch::Tensor w_ = truth_.at("weight");
  quant::IntegerFormat format_{GetParam().bits, 32, GetParam().symmetric};
};

TEST_P(CompressedTensors, ScalesAreTheSame) {
  const IntegerGrid grid = grid_of(range_of(w_, format_), format_, torch::kFloat32);
  const torch::Tensor used = used_groups(w_, format_.group);
  EXPECT_LE((grid.scales / part("scales") - 1).masked_select(used).abs().max().item<float>(), 1e-6);
}

TEST_P(CompressedTensors, PackedCodesAndZeroPointsAreTheSame) {
  IntegerGrid grid = grid_of(range_of(w_, format_), format_, torch::kFloat32);
  grid.scales = part("scales");  // to the last bit, so that ties are the same
  const model::QuantizedMatrix ours = packed(nearest_codes(w_, grid), grid, torch::kFloat32);
  const torch::Tensor codes = model::codes_by_library(part("packed"), w_.size(1), format_.bits);
  const torch::Tensor used =
      used_groups(w_, format_.group).repeat_interleave(format_.group, 1).to(torch::kInt64);
  EXPECT_TRUE(torch::equal(ours.codes().to(torch::kInt64) * used, codes * used));
  EXPECT_TRUE(torch::equal(model::packed_codes(codes, format_.bits), part("packed")));
  if (format_.symmetric) return;
  const torch::Tensor zeros = model::unpacked_zeros(part("zeros"), w_.size(0), format_.bits);
  EXPECT_TRUE(torch::equal(model::packed_zeros(zeros, format_.bits), part("zeros")));
  EXPECT_EQ((zeros.ne(ours.zeros()) * used_groups(w_, format_.group)).sum().item<int64_t>(), 0);
}

TEST_P(CompressedTensors, DecodedWeightsAreTheSame) {
  const torch::Tensor zeros = format_.symmetric
                                  ? torch::Tensor()
                                  : model::unpacked_zeros(part("zeros"), w_.size(0), format_.bits);
  const model::QuantizedMatrix read(format_, part("packed"), part("scales"), zeros);
  EXPECT_TRUE(torch::equal(read.decode(torch::kFloat32), part("decoded")));
}

INSTANTIATE_TEST_SUITE_P(Formats, CompressedTensors,
                         testing::Values(Packed{8, true}, Packed{8, false}, Packed{4, true},
                                         Packed{4, false}, Packed{3, true}, Packed{3, false},
                                         Packed{2, true}, Packed{2, false}));

// LLM.int8() reaches from -127 to 127 and lets the largest number of a row be 127 steps; ours, as
// compressed-tensors, from -128 to 127 with the largest at 127.5.
class LlmInt8 : public testing::Test {
 protected:
  std::map<std::string, torch::Tensor> truth_ = oracle("int8.safetensors");
  torch::Tensor w_ = truth_.at("weight"), row_ = truth_.at("scales").unsqueeze(1);
  quant::IntegerFormat format_{8, w_.size(1), true};
};

TEST_F(LlmInt8, CodesAreTheSameOnItsScales) {
  const torch::Tensor used = row_ > 0;
  const IntegerGrid grid{format_, torch::where(used, row_ / 127, 1.0),
                         torch::full_like(row_, format_.middle())};
  const torch::Tensor ours = nearest_codes(w_, grid) - format_.middle();
  const torch::Tensor theirs = truth_.at("codes").to(torch::kFloat32);
  EXPECT_LE((ours - theirs).abs().max().item<float>(), 1);
  EXPECT_LE(ours.ne(theirs).sum().item<int64_t>(), 2)
      << "but for ties, which are theirs in float16";
}

TEST_F(LlmInt8, OurScaleIsTheSmallerByHalfAStep) {
  const IntegerGrid grid = grid_of(range_of(w_, format_), format_, torch::kFloat32);
  const torch::Tensor used = row_ > 0;
  EXPECT_LE((grid.scales * 127.5 / row_ - 1).masked_select(used).abs().max().item<float>(), 1e-6);
  const torch::Tensor ours = numbers_of(nearest_codes(w_, grid), grid);
  const torch::Tensor theirs = truth_.at("codes").to(torch::kFloat32) * row_ / 127;
  // The smaller steps gain about what cutting the largest number of a row by half a step loses.
  EXPECT_NEAR((ours - w_).norm().item<double>() / (theirs - w_).norm().item<double>(), 1, 0.03);
}

}  // namespace
}  // namespace schmidt::compress
