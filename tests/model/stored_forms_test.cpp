// Networks shared by a group, without gauge, and in sums, inside a model: each
// against the dense model of the matrices it stands for.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/model.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/network.h"

#include "tests/support/compressed_model.h"

namespace schmidt::model {
namespace {

using nlohmann::json;
using test::kFixedKey;
using test::kFixedOut;
using test::kFusedGateUp;
using test::kFusedQkv;
using test::kSumDown;
using test::kSumGateUp;

Model load(const test::TinyModel& model) {
  return Model::load(model.config, Weights(model.tensors, "tiny"));
}

class StoredForms : public testing::Test {
 protected:
  test::CompressedModel models_ = test::make_compressed_model();
  torch::Tensor ids_ = torch::randint(264, {2, 9}, torch::kInt64);
};

TEST_F(StoredForms, EqualTheirMatrices) {
  const at::NoGradGuard no_grad;
  const torch::Tensor ours = load(models_.compressed).forward(ids_);
  const torch::Tensor dense = load(models_.dense).forward(ids_);
  EXPECT_LT((ours - dense).abs().max().item<float>(), 1e-5);
}

TEST_F(StoredForms, DecodeAsTheirMatricesDo) {
  const at::NoGradGuard no_grad;
  const Model dense = load(models_.dense);
  for (const Networks networks : {Networks::kAsStored, Networks::kCores, Networks::kFastest}) {
    const Model compressed =
        Model::load(models_.compressed.config,
                    Weights(models_.compressed.tensors, "tiny", {.networks = networks}));
    KvCache a = compressed.make_cache(2, 9);
    KvCache b = dense.make_cache(2, 9);
    for (int64_t i = 0; i < 3; ++i) {
      const torch::Tensor next = ids_.narrow(1, i, 1).contiguous();
      const torch::Tensor difference =
          compressed.step(next, {1, 1}, a) - dense.step(next, {1, 1}, b);
      EXPECT_LT(difference.abs().max().item<float>(), 1e-5);
    }
    const torch::Tensor prompt = compressed.forward(ids_) - dense.forward(ids_);
    EXPECT_LT(prompt.abs().max().item<float>(), 1e-5);
  }
}

TEST(NetworksOfSeveralSites, AreHeldAsTheirMatrixWhereThatIsFaster) {
  // Contracted with one row, 17 times as many multiplications as the matrix has.
  const Network network = test::random_network({{4, 4, 4}, {4, 4, 4}}, {16, 16});
  std::map<std::string, torch::Tensor> tensors;
  for (const NamedTensor& core : network_tensors("x", network)) tensors[core.name] = core.tensor;
  StoredLayer layer{{"x", 64, 64}, network_form(network)};
  layer.form["kind"] = kMpoKind.name;
  const auto held = [&](Networks networks) {
    const ProjectionPtr projection =
        kMpoKind.load({&layer, 1}, Weights(tensors, "tiny", {.networks = networks}));
    const torch::Tensor difference = projection->weight() - network_matrix(network);
    EXPECT_LT(difference.abs().max().item<float>(), 1e-4);
    return projection->parameters().front().name;
  };
  EXPECT_EQ(held(Networks::kAsStored), "x.cores.0");
  EXPECT_EQ(held(Networks::kCores), "x.cores.0");
  EXPECT_EQ(held(Networks::kFastest), "x.weight");
}

TEST_F(StoredForms, ParametersAreWhatIsStoredButTheIndices) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor, role] : load(models_.compressed).parameters())
    found[name] = tensor;
  size_t expected = 0;
  for (const auto& [name, tensor] : models_.compressed.tensors) {
    if (!tensor.is_floating_point()) continue;
    ++expected;
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(torch::equal(found[name], tensor)) << name;
  }
  EXPECT_EQ(found.size(), expected);
}

// The networks of a layer with their names, read anew: leaves for gradients.
std::vector<std::pair<std::string, Network>> networks_of(const std::string& layer,
                                                         const json& entry, int64_t m, int64_t n,
                                                         const Weights& weights) {
  std::vector<std::pair<std::string, Network>> networks;
  const io::JsonRecord form(entry, layer, "tiny");
  if (!entry.contains("terms")) {
    networks.emplace_back(layer, load_network(form, layer, m, n, weights));
    return networks;
  }
  for (const io::JsonRecord& term : form.records("terms")) {
    const std::string name = layer + ".terms." + std::to_string(networks.size());
    networks.emplace_back(name, load_network(term, name, m, n, weights));
  }
  return networks;
}

class GradientsOfForms : public StoredForms, public testing::WithParamInterface<bool> {};

// In the gauge that is stored, and in the full one: 1, 2 and 3 sites, low rank, sums.
TEST_P(GradientsOfForms, AreTheDenseOnesPulledThroughTheMatrix) {
  const LoadOptions options = {.free_gauge = GetParam()};
  const auto gradients = [&](const test::TinyModel& tiny) {
    const Model model = Model::load(tiny.config, Weights(tiny.tensors, "tiny", options));
    const std::vector<NamedTensor> parameters = model.parameters();
    for (const NamedTensor& p : parameters) p.tensor.set_requires_grad(true);
    model.forward(ids_).square().mean().backward();
    std::map<std::string, torch::Tensor> all;
    for (const auto& [name, tensor, role] : parameters) all[name] = tensor.grad();
    return all;
  };
  const auto found = gradients(models_.compressed);
  const auto dense = gradients(models_.dense);
  const auto expect_close = [&](const std::string& name, const torch::Tensor& expected) {
    ASSERT_TRUE(found.at(name).defined()) << name;
    const double scale = expected.abs().max().item<double>();
    EXPECT_GT(scale, 0.0) << name;
    EXPECT_LT((found.at(name) - expected).abs().max().item<double>(), 1e-4 * scale) << name;
  };

  const ModelConfig config = parse_config(models_.compressed.config, "tiny");
  const Weights weights(models_.compressed.tensors, "tiny", options);
  size_t checked = 0;
  for (int64_t block = 0; block < config.num_layers; ++block) {
    for (const Group group : block_groups(config, block)) {
      std::vector<LayerSpec> members = group_layers(config, block, group);
      const auto fused = fused_layer(members);
      const bool shared = fused && config.compressed_layers.contains(fused->name);
      for (size_t i = 0; i < (shared ? 1 : members.size()); ++i) {
        const LayerSpec& layer = shared ? *fused : members[i];
        std::vector<torch::Tensor> weight, bias;
        for (size_t j = shared ? 0 : i; j < (shared ? members.size() : i + 1); ++j) {
          weight.push_back(dense.at(members[j].name + ".weight"));
          bias.push_back(dense.at(members[j].name + ".bias"));
        }
        expect_close(layer.name + ".bias", torch::cat(bias));
        if (!config.compressed_layers.contains(layer.name)) continue;
        for (const auto& [name, network] :
             networks_of(layer.name, config.compressed_layers.at(layer.name), layer.out_features,
                         layer.in_features, weights)) {
          const std::vector<NamedTensor> cores = network_cores(name, network);
          for (const NamedTensor& core : cores) core.tensor.set_requires_grad(true);
          network_matrix(network).backward(torch::cat(weight));
          for (const NamedTensor& core : cores) expect_close(core.name, core.tensor.grad());
          checked += cores.size();
        }
      }
    }
  }
  EXPECT_EQ(checked, 2u + 3u + 2u + 2u + 4u + 4u);
}

INSTANTIATE_TEST_SUITE_P(Gauges, GradientsOfForms, testing::Bool(), [](const auto& full) {
  return full.param ? std::string("Full") : std::string("AsStored");
});

TEST_F(StoredForms, OpenInTheFullGaugeWhereTrainingAsksForIt) {
  const Weights weights(models_.compressed.tensors, "tiny", {.free_gauge = true});
  const Model model = Model::load(models_.compressed.config, weights);
  std::map<std::string, torch::Tensor> found;
  for (const auto& [name, tensor, role] : model.parameters()) {
    EXPECT_TRUE(tensor.is_leaf()) << name;
    found[name] = tensor;
  }
  const auto expect_core = [&](const std::string& name, at::IntArrayRef sizes) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found[name].sizes(), sizes) << name;
  };
  expect_core(std::string(kFusedQkv) + ".cores.0", {1, 48, 1, 10});
  expect_core(std::string(kFusedQkv) + ".cores.1", {10, 1, 24, 1});
  expect_core(std::string(kFixedOut) + ".cores.0", {1, 4, 2, 6});
  expect_core(std::string(kFixedOut) + ".cores.1", {6, 3, 3, 5});
  expect_core(std::string(kSumDown) + ".terms.0.cores.0", {1, 24, 1, 6});
  expect_core(std::string(kSumDown) + ".terms.1.cores.0", {1, 6, 6, 3});

  const torch::Tensor fixed = load(models_.compressed).forward(ids_);
  EXPECT_LT((model.forward(ids_) - fixed).norm().item<double>(),
            1e-5 * fixed.norm().item<double>());
}

TEST_F(StoredForms, AnUpdateInPlaceChangesTheModel) {
  const Model model = load(models_.compressed);
  const torch::Tensor before = model.forward(ids_);
  for (const NamedTensor& parameter : model.parameters()) {
    const torch::Tensor kept = parameter.tensor.clone();
    parameter.tensor.mul_(1.5);
    EXPECT_FALSE(torch::equal(model.forward(ids_), before)) << parameter.name;
    parameter.tensor.copy_(kept);
  }
  EXPECT_TRUE(torch::equal(model.forward(ids_), before));
}

TEST_F(StoredForms, WhatIsWrittenIsReadBack) {
  const Network fixed = tn::fix_gauge(test::random_network({{4, 3, 2}, {2, 3, 4}}, {6, 5}));
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, tensor, role] : network_tensors("x", fixed)) tensors[name] = tensor;
  EXPECT_EQ(tensors.at("x.pivots.0").scalar_type(), torch::kInt32);
  const json form = network_form(fixed);
  const Network back =
      load_network(io::JsonRecord(form, "x", "tiny"), "x", 24, 24, Weights(tensors, "tiny"));
  EXPECT_EQ(network_form(back), form);
  EXPECT_TRUE(torch::equal(network_matrix(back), network_matrix(fixed)));
}

TEST_F(StoredForms, AFusedLayerMayBeDense) {
  const std::string attention = "model.layers.0.self_attn.";
  std::vector<torch::Tensor> weights, biases;
  for (const char* member : {"q_proj", "k_proj", "v_proj"}) {
    weights.push_back(models_.dense.tensors.at(attention + member + ".weight"));
    biases.push_back(models_.dense.tensors.at(attention + member + ".bias"));
  }
  test::TinyModel fused = models_.dense;
  fused.tensors[std::string(kFusedQkv) + ".weight"] = torch::cat(weights);
  fused.tensors[std::string(kFusedQkv) + ".bias"] = torch::cat(biases);
  fused.config["compression_config"] = {{"version", 1},
                                        {"layers", {{kFusedQkv, {{"kind", "dense"}}}}}};
  EXPECT_TRUE(torch::equal(load(fused).forward(ids_), load(models_.dense).forward(ids_)));
}

torch::Tensor& tensor(test::CompressedModel& models, const std::string& name) {
  return models.compressed.tensors.at(name);
}

struct Lie {
  const char* name;
  void (*apply)(test::CompressedModel& models);
  const char* message;  // a part of it
};

class FormLies : public StoredForms, public testing::WithParamInterface<Lie> {};

TEST_P(FormLies, IsRefusedInOneLine) {
  GetParam().apply(models_);
  std::string message = "accepted";
  try {
    load(models_.compressed);
  } catch (const FormatError& error) {
    message = error.what();
  }
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, FormLies,
    testing::Values(
        Lie{"no_pivots",
            [](auto& m) { m.compressed.tensors.erase(kFusedQkv + std::string(".pivots.0")); },
            "qkv_proj.pivots.0: expected a tensor [10], found none"},
        Lie{"too_few_pivots",
            [](auto& m) {
              torch::Tensor& pivots = tensor(m, kFusedQkv + std::string(".pivots.0"));
              pivots = pivots.narrow(0, 0, 9).clone();
            },
            "qkv_proj.pivots.0: expected shape [10], found [9]"},
        Lie{"pivot_beyond",
            [](auto& m) { tensor(m, kFusedQkv + std::string(".pivots.0"))[9] = 48; },
            "qkv_proj.pivots.0: expected rows in [0, 48), found 48"},
        Lie{"pivot_negative",
            [](auto& m) { tensor(m, kFixedOut + std::string(".pivots.1"))[0] = -1; },
            "o_proj.pivots.1: expected rows in [0, 54), found -1"},
        Lie{"pivots_fall",
            [](auto& m) {
              torch::Tensor& pivots = tensor(m, kFixedKey + std::string(".pivots.0"));
              pivots = pivots.flip({0});
            },
            "k_proj.pivots.0: expected ascending rows, found"},
        Lie{"pivots_repeat",
            [](auto& m) {
              const torch::Tensor pivots = tensor(m, kFixedKey + std::string(".pivots.0"));
              pivots[1] = pivots[0];
            },
            "k_proj.pivots.0: expected ascending rows, found"},
        Lie{"pivots_as_int64",
            [](auto& m) {
              torch::Tensor& pivots = tensor(m, kFixedKey + std::string(".pivots.0"));
              pivots = pivots.to(torch::kInt64);
            },
            "k_proj.pivots.0: expected indices of type I32, found Long"},
        Lie{"pivots_as_floats",
            [](auto& m) {
              torch::Tensor& pivots = tensor(m, kFixedKey + std::string(".pivots.0"));
              pivots = pivots.to(torch::kFloat32);
            },
            "k_proj.pivots.0: expected indices of type I32, found Float"},
        Lie{"gauge_key_dropped", [](auto& m) { m.form(kFixedKey).erase("gauge"); },
            "k_proj.cores.0: expected shape [1, 12, 1, 5], found [7, 5]"},
        Lie{"gauge_unknown", [](auto& m) { m.form(kFixedKey)["gauge"] = "left"; },
            "k_proj.gauge: expected fixed or no such key, found left"},
        Lie{"gauge_no_text", [](auto& m) { m.form(kFixedKey)["gauge"] = true; },
            "k_proj.gauge: expected text, found boolean"},
        Lie{"bond_beyond_rows", [](auto& m) { m.form(kFixedKey)["bonds"] = {13}; },
            "k_proj.bonds: expected bond 0 of at most 12 rows, found 13"},
        Lie{"bond_huge",
            [](auto& m) {
              m.form(kFixedOut)["bonds"] = {6, 1 << 28};
            },
            "o_proj.bonds: expected bond 1 of at most 54 rows, found 268435456"},
        Lie{"fused_and_member",
            [](auto& m) {
              m.form("model.layers.0.self_attn.v_proj") = {{"kind", "dense"}};
            },
            "self_attn.v_proj: expected no entry of its own beside "
            "model.layers.0.self_attn.qkv_proj, found one"},
        Lie{"fused_rows",
            [](auto& m) {
              m.form(kFusedGateUp)["out_dims"] = {6, 6};
            },
            "gate_up_proj.out_dims: expected a product of 72, found [6, 6]"},
        Lie{"fused_unknown",
            [](auto& m) { m.form("model.layers.0.self_attn.kv_proj") = m.form(kFusedQkv); },
            "self_attn.kv_proj: expected a linear layer of the model"},
        Lie{"fused_beyond_the_blocks",
            [](auto& m) { m.form("model.layers.2.self_attn.qkv_proj") = m.form(kFusedQkv); },
            "layers.2.self_attn.qkv_proj: expected a linear layer of the model"},
        Lie{"one_bias_for_three",
            [](auto& m) {
              torch::Tensor& bias = tensor(m, kFusedQkv + std::string(".bias"));
              bias = bias.narrow(0, 0, 24).clone();
            },
            "qkv_proj.bias: expected shape [48], found [24]"},
        Lie{"one_term", [](auto& m) { m.form(kSumDown)["terms"].erase(1); },
            "down_proj.terms: expected two terms or more, found 1"},
        Lie{"no_terms", [](auto& m) { m.form(kSumDown).erase("terms"); },
            "down_proj.terms: expected an array of objects"},
        Lie{"term_no_object", [](auto& m) { m.form(kSumDown)["terms"][1] = 4; },
            "down_proj.terms.1: expected an object, found number"},
        Lie{"term_of_other_rows",
            [](auto& m) {
              m.form(kSumGateUp)["terms"][1]["out_dims"] = {36, 1};
            },
            "gate_up_proj.terms.1.out_dims: expected a product of 72, found [36, 1]"},
        Lie{"term_not_stored",
            [](auto& m) {
              json& terms = m.form(kSumDown)["terms"];
              terms.push_back(json(terms[0]));
            },
            "down_proj.terms.2.cores.0: expected a tensor [18, 6], found none"}),
    [](const auto& lie) { return std::string(lie.param.name); });

}  // namespace
}  // namespace schmidt::model
