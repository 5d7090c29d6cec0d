// Compressed layers, as a config describes them, inside a model that does not know.

#include "schmidt/model/layer_kinds.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/model.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/tn/mpo.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

using nlohmann::json;

constexpr const char* kQ = "model.layers.0.self_attn.q_proj";  // [24, 24]
constexpr const char* kUp = "model.layers.1.mlp.up_proj";      // [36, 24]
constexpr const char* kDown = "model.layers.1.mlp.down_proj";  // [24, 36]

Model load(const test::TinyModel& model) {
  return Model::load(model.config, Weights(model.tensors, "tiny"));
}

std::string message_of(const test::TinyModel& model) {
  try {
    load(model);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "accepted";
}

// Replaces a layer by a random MPO, and the weight of `dense` by its matrix.
void inject(test::TinyModel& compressed, test::TinyModel& dense, const std::string& layer,
            const std::vector<int64_t>& out_dims, const std::vector<int64_t>& in_dims,
            const std::vector<int64_t>& bonds) {
  std::vector<torch::Tensor> cores;
  for (size_t k = 0; k < out_dims.size(); ++k) {
    const int64_t left = k == 0 ? 1 : bonds[k - 1];
    const int64_t right = k + 1 == out_dims.size() ? 1 : bonds[k];
    cores.push_back(torch::randn({left, out_dims[k], in_dims[k], right}) * 0.3);
    compressed.tensors[layer + ".cores." + std::to_string(k)] = cores.back();
  }
  compressed.tensors.erase(layer + ".weight");
  compressed.config["compression_config"]["version"] = 1;
  compressed.config["compression_config"]["layers"][layer] = {
      {"kind", "mpo"}, {"out_dims", out_dims}, {"in_dims", in_dims}, {"bonds", bonds}};
  dense.tensors[layer + ".weight"] = tn::Mpo(cores).to_dense();
}

class LayerKinds : public testing::Test {
 protected:
  // One member of a group, a member at its end, a group of its own; 3, 2 and 1 sites.
  void SetUp() override {
    inject(mpo_, dense_, kQ, {2, 3, 4}, {4, 3, 2}, {5, 6});
    inject(mpo_, dense_, kUp, {6, 6}, {4, 6}, {7});
    inject(mpo_, dense_, kDown, {24}, {36}, {});
  }
  json& form(const std::string& layer) {
    return mpo_.config["compression_config"]["layers"][layer];
  }

  test::TinyModel mpo_ = test::make_tiny_model(2);
  test::TinyModel dense_ = test::make_tiny_model(2);
  torch::Tensor ids_ = torch::randint(264, {2, 9}, torch::kInt64);
};

TEST_F(LayerKinds, MpoLayersEqualTheirMatrices) {
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(torch::allclose(load(mpo_).forward(ids_), load(dense_).forward(ids_), 1e-4, 1e-5));
}

TEST_F(LayerKinds, MpoLayersDecodeAsTheirMatricesDo) {
  const Model compressed = load(mpo_);
  const Model dense = load(dense_);
  KvCache a = compressed.make_cache(2, 9);
  KvCache b = dense.make_cache(2, 9);
  for (int64_t i = 0; i < 3; ++i) {
    const torch::Tensor next = ids_.narrow(1, i, 1).contiguous();
    EXPECT_TRUE(
        torch::allclose(compressed.step(next, {1, 1}, a), dense.step(next, {1, 1}, b), 1e-4, 1e-5));
  }
}

TEST_F(LayerKinds, ParametersAreWhatTheCheckpointHolds) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor, role] : load(mpo_).parameters()) found[name] = tensor;
  EXPECT_EQ(found.size(), mpo_.tensors.size());
  for (const auto& [name, tensor] : mpo_.tensors) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(torch::equal(found[name], tensor)) << name;
  }
}

TEST_F(LayerKinds, CoresReceiveGradients) {
  const Model model = load(mpo_);
  const std::vector<NamedTensor> parameters = model.parameters();
  for (const NamedTensor& parameter : parameters) parameter.tensor.set_requires_grad(true);
  model.forward(ids_).square().mean().backward();
  for (const auto& [name, tensor, role] : parameters) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_GT(tensor.grad().abs().max().item<float>(), 0.0F) << name;
  }
}

TEST_F(LayerKinds, AnUpdateInPlaceChangesTheModel) {
  const Model model = load(mpo_);
  const torch::Tensor before = model.forward(ids_);
  for (const std::string name : {"model.layers.0.self_attn.k_proj.weight",
                                 "model.layers.1.mlp.up_proj.cores.1", "model.norm.weight"}) {
    for (const NamedTensor& parameter : model.parameters()) {
      if (parameter.name == name) {
        const torch::Tensor kept = parameter.tensor.clone();
        parameter.tensor.mul_(1.5);
        EXPECT_FALSE(torch::allclose(model.forward(ids_), before)) << name;
        parameter.tensor.copy_(kept);
      }
    }
  }
  EXPECT_TRUE(torch::equal(model.forward(ids_), before));
}

TEST_F(LayerKinds, LoadingLeavesTheGivenTensorsAlone) {
  const torch::Tensor kept = mpo_.tensors[std::string(kQ) + ".cores.0"].clone();
  const Model model = load(mpo_);
  for (const NamedTensor& parameter : model.parameters()) parameter.tensor.zero_();
  EXPECT_TRUE(torch::equal(mpo_.tensors[std::string(kQ) + ".cores.0"], kept));
}

TEST_F(LayerKinds, ABlockTakesAnotherProjection) {
  Model model = load(dense_);
  const torch::Tensor before = model.forward(ids_);
  const tn::Mpo mpo({mpo_.tensors[std::string(kDown) + ".cores.0"] * 2});
  model.block(1).replace(Group::kDown, std::make_shared<MpoProjection>(kDown, mpo, std::nullopt));
  EXPECT_FALSE(torch::allclose(model.forward(ids_), before));
  EXPECT_THROW(model.block(1).replace(Group::kQkv,
                                      std::make_shared<MpoProjection>(kDown, mpo, std::nullopt)),
               c10::ValueError);
  EXPECT_THROW(model.block(2), c10::ValueError);
}

TEST_F(LayerKinds, AnUnknownKindNamesTheKnownOnes) {
  form(kQ)["kind"] = "tucker";
  EXPECT_EQ(message_of(mpo_),
            "tiny: compression_config.layers.model.layers.0.self_attn.q_proj: "
            "expected a kind among dense, mpo, sum, quantized, factored, nf4, found tucker");
}

struct Lie {
  const char* name;
  void (*apply)(test::TinyModel& model, json& form);  // form of q_proj
  const char* message;                                // a part of it
};

class LayerLies : public LayerKinds, public testing::WithParamInterface<Lie> {};

TEST_P(LayerLies, IsRefusedInOneLine) {
  GetParam().apply(mpo_, form(kQ));
  const std::string message = message_of(mpo_);
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LayerLies,
    testing::Values(
        Lie{"product",
            [](auto&, json& form) {
              form["out_dims"] = {2, 3, 5};
            },
            "q_proj.out_dims: expected a product of 24, found [2, 3, 5]"},
        Lie{"overflow",
            [](auto&, json& form) {
              form["in_dims"] = {1 << 28, 1 << 28, 1 << 28};
            },
            "q_proj.in_dims: expected a product of 24"},
        Lie{"negative",
            [](auto&, json& form) {
              form["out_dims"] = {-2, -3, 4};
            },
            "q_proj.out_dims: expected sizes in [1,"},
        Lie{"bond_zero",
            [](auto&, json& form) {
              form["bonds"] = {0, 6};
            },
            "q_proj.bonds: expected sizes in [1,"},
        Lie{"bonds", [](auto&, json& form) { form["bonds"] = {5}; },
            "q_proj.bonds: expected 2 bonds, found 1"},
        Lie{"sites",
            [](auto&, json& form) {
              form["in_dims"] = {4, 6};
            },
            "q_proj.in_dims: expected 3 sites, found 2"},
        Lie{"no_sites", [](auto&, json& form) { form["out_dims"] = json::array(); },
            "q_proj.out_dims: expected a product of 24"},
        Lie{"missing_key", [](auto&, json& form) { form.erase("bonds"); },
            "q_proj.bonds: expected an array of sizes"},
        Lie{"another_bond",
            [](auto&, json& form) {
              form["bonds"] = {5, 5};
            },
            "q_proj.cores.1: expected shape [5, 3, 3, 5], found [5, 3, 3, 6]"},
        Lie{"no_core",
            [](test::TinyModel& model, json&) {
              model.tensors.erase(std::string(kQ) + ".cores.2");
            },
            "q_proj.cores.2: expected a tensor [6, 4, 2, 1], found none"},
        Lie{"integers",
            [](test::TinyModel& model, json&) {
              torch::Tensor& core = model.tensors[std::string(kQ) + ".cores.0"];
              core = core.to(torch::kInt32);
            },
            "q_proj.cores.0: expected a floating type, found Int"},
        Lie{"no_object", [](auto&, json& form) { form = 3; }, "expected a kind among"},
        Lie{"no_layer",
            [](test::TinyModel& model, json& form) {
              model.config["compression_config"]["layers"]["model.layers.9.mlp.up_proj"] = form;
            },
            "model.layers.9.mlp.up_proj: expected a linear layer of the model"}),
    [](const auto& lie) { return std::string(lie.param.name); });

TEST(UnfoldWeight, MultipliesPartsOf16BitsInFloat32) {
  torch::manual_seed(3);
  std::vector<torch::Tensor> cores = {torch::randn({1, 12, 4, 9}), torch::randn({9, 3, 5, 1})};
  for (torch::Tensor& core : cores) core = core.to(torch::kBFloat16);
  const StoredWeight stored = mpo_weight("layer", tn::Mpo(cores));
  const torch::Tensor w = unfold_weight({"layer", 36, 20}, stored);
  for (torch::Tensor& core : cores) core = core.to(torch::kFloat64);
  const torch::Tensor exact = tn::Mpo(cores).to_dense();
  ASSERT_EQ(w.scalar_type(), torch::kFloat32);
  EXPECT_LE((w - exact).abs().max().item<double>(), 1e-6 * exact.abs().max().item<double>());
}

}  // namespace
}  // namespace schmidt::model
