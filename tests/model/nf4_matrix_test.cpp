#include "schmidt/model/nf4_matrix.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/nf4_projection.h"

namespace schmidt::model {
namespace {

struct Case {
  int64_t m, n;
  Nf4Magnitudes magnitudes;
};

class Nf4 : public testing::TestWithParam<Case> {
 protected:
  Nf4Matrix matrix() const { return Nf4Matrix(nf4_encoded(w_, GetParam().magnitudes)); }

  torch::Tensor w_ = [] {
    torch::manual_seed(3);
    return torch::randn({GetParam().m, GetParam().n}) * 0.1;
  }();
};

TEST_P(Nf4, TilesAreThoseOfTheWholeWhateverTheWay) {
  const Nf4Matrix w = matrix();
  const torch::Tensor whole = w.decode(torch::kFloat32);
  EXPECT_LT((whole - w_).norm().item<double>(), 0.12 * w_.norm().item<double>());
  for (int64_t begin = 0; begin < w.rows(); begin += 3) {
    const int64_t end = std::min(begin + 3, w.rows());
    const torch::Tensor rows = whole.slice(0, begin, end);
    EXPECT_TRUE(torch::equal(w.decode(begin, end, torch::kFloat32), rows));
    EXPECT_TRUE(torch::allclose(nf4_decoded_by_library(w, begin, end), rows, 1e-6, 1e-8));
  }
}

TEST_P(Nf4, RoundingMagnitudesChangesLittle) {
  const torch::Tensor plain = Nf4Matrix(nf4_encoded(w_, Nf4Magnitudes::kFloat32)).magnitudes();
  EXPECT_LT((matrix().magnitudes() - plain).norm().item<double>(),
            0.01 * plain.norm().item<double>());
}

TEST_P(Nf4, MultipliesAndPassesGradientsOn) {
  const Nf4Matrix w = matrix();
  torch::Tensor x = torch::randn({2, 5, w.columns()}, torch::requires_grad());
  const torch::Tensor y = w.multiply(x);
  const torch::Tensor truth = torch::matmul(x, w.decode(torch::kFloat32).t());
  EXPECT_LT((y - truth).abs().max().item<float>(), 1e-4 * truth.abs().max().item<float>());
  const torch::Tensor direction = torch::randn_like(truth);
  const torch::Tensor ours = torch::autograd::grad({y}, {x}, {direction})[0];
  const torch::Tensor theirs = torch::autograd::grad({truth}, {x}, {direction})[0];
  EXPECT_LT((ours - theirs).abs().max().item<float>(), 1e-4 * theirs.abs().max().item<float>());
}

TEST_P(Nf4, IsStoredAndReadAsItWas) {
  const Nf4Matrix w = matrix();
  const StoredWeight stored = nf4_weight("layer", w, torch::kBFloat16);
  const LayerSpec spec{"layer", w.rows(), w.columns()};
  EXPECT_TRUE(torch::equal(unfold_weight(spec, stored), w.decode(torch::kFloat32)));
  const WeightDescription description = describe_weight("layer", stored);
  EXPECT_EQ(description.shape, (std::vector<int64_t>{w.rows(), w.columns()}));
  EXPECT_EQ(description.parameters, w.rows() * w.columns());
  const StoredWeight packed = pack_weight("layer", stored, {.dtype = torch::kBFloat16});
  ASSERT_EQ(packed.tensors.size(), stored.tensors.size());
  for (const NamedTensor& t : stored.tensors) {
    EXPECT_TRUE(torch::equal(find_tensor(packed, t.name)->tensor, t.tensor)) << t.name;
  }
}

TEST_P(Nf4, NamesWhatAFileHoldsWrong) {
  const Nf4Matrix w = matrix();
  const bool nested = w.is_double_quantized();
  const LayerSpec spec{"layer", w.rows(), w.columns()};
  const auto message = [&](const std::function<void(StoredWeight&)>& change) -> std::string {
    StoredWeight stored = nf4_weight("layer", w, torch::kFloat32);
    for (NamedTensor& t : stored.tensors) t.tensor = t.tensor.clone();
    change(stored);
    try {
      unfold_weight(spec, stored);
    } catch (const FormatError& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  const auto tensor = [](StoredWeight& s, const std::string& end) -> torch::Tensor& {
    return std::ranges::find(s.tensors, "layer.weight" + end, &NamedTensor::name)->tensor;
  };
  const auto with_state = [&](const std::string& from, const std::string& to) {
    return message([&](StoredWeight& s) {
      torch::Tensor& t = tensor(s, ".quant_state.bitsandbytes__nf4");
      std::string text(t.const_data_ptr<uint8_t>(), t.const_data_ptr<uint8_t>() + t.numel());
      ASSERT_NE(text.find(from), std::string::npos) << text;
      text.replace(text.find(from), from.size(), to);
      t = torch::from_blob(text.data(), {static_cast<int64_t>(text.size())}, torch::kUInt8).clone();
    });
  };
  const auto expect_in = [](const std::string& found, const std::string& part) {
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  const std::string magnitudes = nested ? ".nested_absmax" : ".absmax";
  for (const float wrong : {NAN, INFINITY, -1.0F}) {
    expect_in(message([&](StoredWeight& s) { tensor(s, magnitudes)[0] = wrong; }),
              "layer.weight" + magnitudes);
  }
  EXPECT_EQ(message([&](StoredWeight& s) { tensor(s, magnitudes)[0] = 0; }), "nothing was thrown")
      << "a block of zeros";
  for (const char* end : {"", ".absmax", ".quant_map"}) {
    const std::string found = message([&](StoredWeight& s) {
      torch::Tensor& t = tensor(s, end);
      t = torch::cat({t, t.slice(0, 0, 1)});
    });
    expect_in(found, "layer.weight" + std::string(end) + ": expected shape");
  }
  expect_in(message([&](StoredWeight& s) { tensor(s, ".quant_map")[3] = 0.5; }), "levels of NF4");
  expect_in(message([&](StoredWeight& s) { tensor(s, "") = tensor(s, "").to(torch::kInt32); }),
            "layer.weight: expected type");
  expect_in(message([&](StoredWeight& s) {
              std::erase_if(s.tensors, [](const auto& t) { return t.name.ends_with("absmax"); });
            }),
            "absmax: expected a tensor");
  expect_in(with_state("{", "["), "expected JSON");
  expect_in(with_state("\"nf4\"", "\"fp4\""), "expected nf4");
  expect_in(with_state("\"blocksize\":64", "\"blocksize\":65"), "a power of two");
  expect_in(with_state("\"blocksize\":64", "\"blocksize\":128"), "expected what config.json says");
  expect_in(with_state("\"blocksize\":64", "\"blocksize\":-64"), "expected an integer");
  expect_in(with_state("\"float32\"", "\"int8\""), "float16 or bfloat16");
  expect_in(with_state("{", "{\"version\":2,"), "found a key \"version\"");
  if (nested) {
    expect_in(with_state("\"nested_offset\":", "\"nested_offset\":1e60,\"x\":"), "key \"x\"");
    expect_in(message([&](StoredWeight& s) { tensor(s, ".nested_quant_map")[9] = NAN; }),
              "nested_quant_map: holds NaN");
    expect_in(message([&](StoredWeight& s) {
                tensor(s, ".nested_quant_map").fill_(3e38);
                tensor(s, ".nested_absmax").fill_(3e38);
              }),
              "NaN or infinite magnitudes");
  }
  expect_in(message([&](StoredWeight& s) {
              s.form["shape"] = {w.columns() + 1, w.rows()};
            }),
            "shape");
}

INSTANTIATE_TEST_SUITE_P(Sizes, Nf4,
                         testing::Values(Case{5, 128, Nf4Magnitudes::kDoubleQuantized},
                                         Case{7, 77, Nf4Magnitudes::kDoubleQuantized},
                                         Case{300, 65, Nf4Magnitudes::kDoubleQuantized},
                                         Case{1, 3, Nf4Magnitudes::kDoubleQuantized},
                                         Case{9, 64, Nf4Magnitudes::kFloat32},
                                         Case{7, 33, Nf4Magnitudes::kFloat32}));

TEST(Nf4Matrix, RefusesPartsThatDoNotFit) {
  const Nf4Parts parts = nf4_encoded(torch::randn({4, 32}));
  for (const auto& change : std::vector<std::function<void(Nf4Parts&)>>{
           [](Nf4Parts& p) { p.rows = 5; }, [](Nf4Parts& p) { p.block = 32; },
           [](Nf4Parts& p) { p.nested_map = torch::zeros({16}); },
           [](Nf4Parts& p) { p.nested_absmax = torch::Tensor(); }}) {
    Nf4Parts changed = parts;
    change(changed);
    EXPECT_THROW(Nf4Matrix{changed}, c10::ValueError);
  }
}

}  // namespace
}  // namespace schmidt::model
