#include "schmidt/convert/rotated.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include "schmidt/io/dtype_names.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"

namespace schmidt::convert {
namespace {

using Turn = std::function<torch::Tensor(const torch::Tensor&)>;  // of a tensor in float32

/// H [n, n] / sqrt(n), n a power of two: H_2n is H_n beside H_n over H_n beside -H_n.
torch::Tensor hadamard(int64_t n) {
  const torch::Tensor step = torch::tensor({{1.0, 1.0}, {1.0, -1.0}}, torch::kFloat64);
  torch::Tensor h = torch::ones({1, 1}, torch::kFloat64);
  while (h.size(0) < n) h = torch::kron(h, step / std::sqrt(2.0));
  return h;
}

/// Says of the tensors of a model what becomes of them when they are written.
class Turning {
 public:
  Turning(const io::Checkpoint& checkpoint, const model::ModelConfig& config, uint64_t seed,
          torch::ScalarType dtype)
      : checkpoint_(checkpoint),
        config_(config),
        dtype_(dtype),
        stream_(random_rotation(config.hidden_size, seed)),
        values_(random_rotation(config.head_dim, seed + 1)),
        weights_(checkpoint, [dtype](const std::string&, const io::TensorInfo& info) {
          return isFloatingType(info.dtype) ? dtype : info.dtype;
        }) {}

  package::Rewrite weights() && {
    turn_vocabulary();
    for (int64_t block = 0; block < config_.num_layers; ++block) turn_block(block);
    return std::move(weights_);
  }

 private:
  struct Written {
    std::string name;
    Turn turn;
  };

  /// The tensor `name` is written as each of `parts`, of its shape.
  void replace(const std::string& name, const std::vector<Written>& parts) {
    std::vector<io::TensorSpec> specs;
    for (const Written& part : parts) {
      specs.push_back({part.name, dtype_, checkpoint_.tensors().at(name).shape});
    }
    weights_.replace({name}, specs, [checkpoint = checkpoint_, dtype = dtype_, name, parts] {
      const torch::Tensor whole = checkpoint.load(name).to(torch::kFloat32);
      std::vector<model::NamedTensor> tensors;
      for (const Written& part : parts) {
        tensors.push_back({part.name, part.turn(whole).to(dtype).contiguous()});
      }
      return tensors;
    });
  }
  void replace(const std::string& name, const Turn& turn) { replace(name, {{name, turn}}); }

  /// Of W [m, hidden] that reads what the norm of that name, whose weight is g, makes of the
  /// stream: W diag(g) R^T reads the turned stream, normed alone.
  Turn reading(const std::string& norm) const {
    return [stream = stream_, g = checkpoint_.load(norm).to(torch::kFloat32)](
               const torch::Tensor& w) { return (w * g).matmul(stream.t()); };
  }

  void turn_norm(const std::string& name) {
    replace(name, [](const torch::Tensor& g) { return torch::ones_like(g); });
  }

  void turn_vocabulary() {
    const std::string norm = "model.norm.weight";
    const std::string embedding = model::embedding_layer(config_).name + ".weight";
    const Written head = {model::output_layer(config_).name + ".weight", reading(norm)};
    const Written rows = {
        embedding, [stream = stream_](const torch::Tensor& e) { return e.matmul(stream.t()); }};
    if (model::has_tied_head(config_)) {
      replace(embedding, {rows, head});
    } else {
      replace(embedding, {rows});
      replace(head.name, {head});
    }
    turn_norm(norm);
  }

  /// Both of W [hidden, n] and of a bias [hidden] that are added to the stream.
  void turn_sum(const model::LayerSpec& layer, const Turn& before) {
    replace(layer.name + ".weight", [stream = stream_, before](const torch::Tensor& w) {
      return stream.matmul(before ? before(w) : w);
    });
    if (!layer.bias) return;
    replace(layer.name + ".bias",
            [stream = stream_](const torch::Tensor& b) { return stream.matmul(b); });
  }

  void turn_attention(int64_t block, const Turn& read) {
    const auto qkv = model::group_layers(config_, block, model::Group::kQkv);
    // Rows of v, or its bias, are turned head by head; columns of o as the rows that they meet.
    const Turn of_heads = [values = values_](const torch::Tensor& v) {
      return values.matmul(v.reshape({-1, values.size(0), v.numel() / v.size(0)})).reshape_as(v);
    };
    for (const model::LayerSpec& layer : qkv) {
      const bool is_value = &layer == &qkv.back();
      replace(layer.name + ".weight", [read, of_heads, is_value](const torch::Tensor& w) {
        return is_value ? of_heads(read(w)) : read(w);
      });
      if (is_value && layer.bias) replace(layer.name + ".bias", of_heads);
    }
    const auto out = model::group_layers(config_, block, model::Group::kOut);
    turn_sum(out.front(),
             [of_heads](const torch::Tensor& w) { return of_heads(w.t().contiguous()).t(); });
  }

  void turn_block(int64_t block) {
    Turn of_mlp;
    for (const model::NormSpec& norm : model::block_norms(config_, block)) {
      const std::string name = norm.name + ".weight";
      if (norm.norm == model::Norm::kQkvInput) turn_attention(block, reading(name));
      if (norm.norm == model::Norm::kGateUpInput) of_mlp = reading(name);
      if (norm.norm == model::Norm::kQkvInput || norm.norm == model::Norm::kGateUpInput) {
        turn_norm(name);
      }
    }
    for (const model::RouterSpec& router : model::block_routers(config_, block)) {
      replace(router.name + ".weight", of_mlp);
    }
    for (const model::Group group : model::block_groups(config_, block)) {
      for (const model::LayerSpec& layer : model::group_layers(config_, block, group)) {
        if (group.kind == model::Group::kGateUp) replace(layer.name + ".weight", of_mlp);
        if (group.kind == model::Group::kDown) turn_sum(layer, {});
      }
    }
  }

  const io::Checkpoint& checkpoint_;
  const model::ModelConfig& config_;
  torch::ScalarType dtype_;
  torch::Tensor stream_;  // R [hidden, hidden]
  torch::Tensor values_;  // of the values of a head [head_dim, head_dim]
  package::Rewrite weights_;
};

}  // namespace

torch::Tensor random_rotation(int64_t n, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const int64_t power = n & -n;  // the largest power of two that divides n
  const int64_t odd = n / power;
  const torch::Tensor random =
      std::get<0>(torch::linalg_qr(torch::randn({odd, odd}, generator, torch::kFloat64)))
          .contiguous();
  const torch::Tensor signs = torch::randint(0, 2, {n}, generator, torch::kFloat64) * 2 - 1;
  return (torch::kron(hadamard(power), random) * signs).to(torch::kFloat32);
}

DenseModel rotated_model(const io::Checkpoint& checkpoint, uint64_t seed,
                         std::optional<torch::ScalarType> dtype) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  const bool pruned = std::ranges::any_of(
      config.mlp_sizes, [&](int64_t size) { return size != config.intermediate_size; });
  TORCH_CHECK_VALUE(config.compressed_layers.empty() && !pruned,
                    "[rotate] expected a model none of whose layers is compressed, got ",
                    pruned ? "pruned MLPs" : std::to_string(config.compressed_layers.size()),
                    " in ", checkpoint.path().string(), "; export --to dense writes one");
  TORCH_CHECK_VALUE(config.norms == model::NormPlacement::kBefore,
                    "[rotate] expected norms in front of attention and MLP alone, got ",
                    config.model_type, ", which has them behind, where their weights do not turn");
  const torch::ScalarType written = dtype.value_or(dense_dtype(checkpoint));
  DenseModel rotated{Turning(checkpoint, config, seed, written).weights(), checkpoint.config(), {}};
  rotated.config["tie_word_embeddings"] = false;
  erase_stored_forms(rotated.config);
  io::name_dtype(rotated.config, written);
  return rotated;
}

}  // namespace schmidt::convert
