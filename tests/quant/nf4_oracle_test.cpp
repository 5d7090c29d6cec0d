#include <set>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/quant/nf4.h"

#include "tests/support/support.h"

// What bitsandbytes makes of the same numbers on the CPU.

namespace schmidt::quant {
namespace {

using Tensors = std::map<std::string, torch::Tensor>;

Tensors oracle(const std::string& name) {
  return io::load_safetensors(test::oracle_dir() / "rounding" / name);
}

torch::Tensor bytes(int64_t count) { return torch::empty({count}, torch::kUInt8); }

class Bitsandbytes : public testing::Test {
 protected:
  /// Calls visit(name, weight) for each weight.
  void for_each(const std::function<void(const std::string&, const torch::Tensor&)>& visit) {
    int64_t seen = 0;
    for (const auto& [name, tensor] : truth_) {
      if (!name.ends_with(".weight")) continue;
      SCOPED_TRACE(name);
      visit(name.substr(0, name.size() - std::string(".weight").size()), tensor.contiguous());
      ++seen;
    }
    EXPECT_EQ(seen, 16);
  }

  const torch::Tensor& part(const std::string& name) const { return truth_.at(name); }

  /// Codes and magnitudes of ours.
  static std::pair<torch::Tensor, torch::Tensor> encoded(const torch::Tensor& w) {
    torch::Tensor codes = bytes(nf4_bytes(w.numel()));
    torch::Tensor absmax = torch::empty({blocks_of(w.numel(), kNf4Block)});
    encode_nf4(w.const_data_ptr<float>(), w.numel(), kNf4Block, codes.mutable_data_ptr<uint8_t>(),
               absmax.mutable_data_ptr<float>());
    return {codes, absmax};
  }

  static torch::Tensor decoded(const torch::Tensor& codes, const Nf4Scales& scales,
                               torch::IntArrayRef shape) {
    torch::Tensor values = torch::empty(shape);
    decode_nf4(codes.const_data_ptr<uint8_t>(), scales, kNf4Block, 0, values.numel(),
               values.mutable_data_ptr<float>());
    return values;
  }

  Tensors truth_ = oracle("nf4.safetensors");
};

TEST_F(Bitsandbytes, LevelsAndDynamicMapAreTheSameNumbers) {
  const Tensors truth = oracle("maps.safetensors");
  EXPECT_TRUE(torch::equal(truth.at("levels"), torch::tensor(at::ArrayRef<float>(kNf4Levels))));
  EXPECT_TRUE(torch::equal(truth.at("map"), torch::tensor(at::ArrayRef<float>(dynamic_map()))));
}

// A last block that is cut off and all zeros has 1e-38 there and 0 here; both stand for zeros.
TEST_F(Bitsandbytes, CodesAndMagnitudesOfNf4AreTheSame) {
  for_each([&](const std::string& name, const torch::Tensor& w) {
    const auto [codes, absmax] = encoded(w);
    EXPECT_TRUE(torch::equal(codes, part(name + ".plain.codes").flatten()));
    EXPECT_TRUE(torch::equal(codes, part(name + ".double.codes").flatten()));
    const torch::Tensor& expected = part(name + ".plain.absmax");
    EXPECT_TRUE(torch::equal(absmax, torch::where(expected > 1e-37, expected, 0.0)));
  });
}

TEST_F(Bitsandbytes, DoublyQuantizedMagnitudesAreTheSameAboutTheSameMean) {
  for_each([&](const std::string& name, const torch::Tensor& w) {
    const torch::Tensor absmax = part(name + ".plain.absmax");
    const torch::Tensor offset = part(name + ".double.offset");
    // Means differ by the order of summation.
    EXPECT_NEAR(offset.item<double>(), absmax.to(torch::kFloat64).mean().item<double>(),
                1e-6 * offset.item<double>());
    const torch::Tensor rest = (absmax - offset).contiguous();
    torch::Tensor codes = bytes(rest.numel());
    torch::Tensor nested = torch::empty({blocks_of(rest.numel(), kNestedBlock)});
    encode_dynamic(rest.const_data_ptr<float>(), rest.numel(), kNestedBlock,
                   codes.mutable_data_ptr<uint8_t>(), nested.mutable_data_ptr<float>());
    EXPECT_TRUE(torch::equal(codes, part(name + ".double.absmax")));
    EXPECT_TRUE(torch::equal(nested, part(name + ".double.nested")));
  });
}

TEST_F(Bitsandbytes, CodesOfTheDynamicMapAreTheSame) {
  const Tensors truth = oracle("dynamic.safetensors");
  const torch::Tensor values = truth.at("values");
  torch::Tensor codes = bytes(values.numel());
  torch::Tensor absmax = torch::empty({blocks_of(values.numel(), kNestedBlock)});
  encode_dynamic(values.const_data_ptr<float>(), values.numel(), kNestedBlock,
                 codes.mutable_data_ptr<uint8_t>(), absmax.mutable_data_ptr<float>());
  EXPECT_EQ(codes.ne(truth.at("codes")).sum().item<int64_t>(), 0);
  EXPECT_TRUE(torch::equal(absmax, truth.at("absmax")));
}

TEST_F(Bitsandbytes, DecodedWeightsAreTheSame) {
  for_each([&](const std::string& name, const torch::Tensor& w) {
    const torch::Tensor plain = part(name + ".plain.absmax");
    const torch::Tensor once =
        decoded(part(name + ".plain.codes"), {.absmax = plain.const_data_ptr<float>()}, w.sizes());
    EXPECT_TRUE(torch::equal(once, part(name + ".plain.decoded")));
    const Nf4Scales scales{.codes = part(name + ".double.absmax").const_data_ptr<uint8_t>(),
                           .map = dynamic_map().data(),
                           .nested = part(name + ".double.nested").const_data_ptr<float>(),
                           .offset = part(name + ".double.offset").item<float>()};
    const torch::Tensor twice = decoded(part(name + ".double.codes"), scales, w.sizes());
    const torch::Tensor& expected = part(name + ".double.decoded");
    EXPECT_LE((twice - expected).abs().max().item<float>(),
              1e-6F * expected.abs().max().item<float>());
  });
}

}  // namespace
}  // namespace schmidt::quant
