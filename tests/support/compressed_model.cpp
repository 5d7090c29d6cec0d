#include "tests/support/compressed_model.h"

#include <fmt/format.h>

#include "schmidt/model/layers.h"
#include "schmidt/tn/gauge.h"

namespace schmidt::test {
namespace {

using model::Network;
using nlohmann::json;

// A tensor of the compressed model, in memory of its own.
void put(TinyModel& compressed, const std::vector<model::NamedTensor>& tensors) {
  for (const auto& [name, tensor, role] : tensors) compressed.tensors[name] = tensor.clone();
}

// Gives `matrix` and a bias to the dense layers whose outputs, stacked, are its rows.
void put_dense(CompressedModel& models, const std::string& layer,
               const std::vector<std::string>& members, const torch::Tensor& matrix) {
  std::vector<torch::Tensor> biases;
  int64_t row = 0;
  for (const std::string& member : members) {
    torch::Tensor& weight = models.dense.tensors.at(member + ".weight");
    const int64_t m = weight.size(0);
    weight = matrix.narrow(0, row, m).contiguous();
    row += m;
    biases.push_back(models.dense.tensors.at(member + ".bias"));
    models.compressed.tensors.erase(member + ".weight");
    models.compressed.tensors.erase(member + ".bias");
  }
  models.compressed.tensors[layer + ".bias"] = torch::cat(biases);
}

void put_network(CompressedModel& models, const std::string& layer,
                 const std::vector<std::string>& members, const Network& network) {
  put_dense(models, layer, members, model::network_matrix(network));
  put(models.compressed, model::network_tensors(layer, network));
  models.form(layer) = model::network_form(network);
  models.form(layer)["kind"] = "mpo";
}

void put_sum(CompressedModel& models, const std::string& layer,
             const std::vector<std::string>& members, const std::vector<Network>& terms) {
  put_dense(models, layer, members,
            model::network_matrix(terms[0]) + model::network_matrix(terms[1]));
  json form = {{"kind", "sum"}};
  for (size_t i = 0; i < terms.size(); ++i) {
    put(models.compressed, model::network_tensors(fmt::format("{}.terms.{}", layer, i), terms[i]));
    form["terms"].push_back(model::network_form(terms[i]));
  }
  models.form(layer) = form;
}

}  // namespace

json& CompressedModel::form(const std::string& layer) {
  return compressed.config["compression_config"]["layers"][layer];
}

tn::Mpo random_network(const tn::SiteShape& shape, const std::vector<int64_t>& bonds) {
  std::vector<torch::Tensor> cores;
  for (size_t k = 0; k < shape.out_dims.size(); ++k) {
    const int64_t left = k == 0 ? 1 : bonds[k - 1];
    const int64_t right = k < bonds.size() ? bonds[k] : 1;
    cores.push_back(torch::randn({left, shape.out_dims[k], shape.in_dims[k], right}) * 0.3);
  }
  return tn::Mpo(std::move(cores));
}

CompressedModel make_compressed_model() {
  TinyModel plain = make_tiny_model(2);
  plain.config["attention_bias"] = true;
  plain.config["mlp_bias"] = true;
  const auto parsed = model::parse_config(plain.config, "tiny");
  for (const model::LayerSpec& layer : model::block_layers(parsed)) {
    plain.tensors[layer.name + ".bias"] = torch::randn({layer.out_features}) * 0.1;
  }
  CompressedModel models = {plain, plain};
  models.compressed.config["compression_config"]["version"] = 1;

  const auto names = [](int64_t block, const std::vector<std::string>& parts) {
    std::vector<std::string> all;
    for (const std::string& part : parts) all.push_back(model::block_prefix(block) + part);
    return all;
  };
  const auto fixed = [](const tn::SiteShape& shape, const std::vector<int64_t>& bonds) {
    return tn::fix_gauge(random_network(shape, bonds));
  };
  put_network(models, kFusedQkv,
              names(0, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}),
              fixed(tn::low_rank_shape(48, 24), {10}));
  put_network(models, kFixedOut, {kFixedOut}, fixed({{4, 3, 2}, {2, 3, 4}}, {6, 5}));
  put_network(models, kFusedGateUp, names(0, {"mlp.gate_proj", "mlp.up_proj"}),
              random_network({{9, 8}, {4, 6}}, {7}));
  put_network(models, kFixedKey, {kFixedKey}, fixed(tn::low_rank_shape(12, 24), {5}));
  put_sum(models, kSumGateUp, names(1, {"mlp.gate_proj", "mlp.up_proj"}),
          {random_network({{9, 8}, {4, 6}}, {4}), fixed(tn::low_rank_shape(72, 24), {6})});
  put_sum(models, kSumDown, {kSumDown},
          {fixed(tn::low_rank_shape(24, 36), {6}), fixed({{6, 4}, {6, 6}}, {3})});
  return models;
}

}  // namespace schmidt::test
