// One training step of a model, bfloat16 with float32 masters, and where its time goes:
//
//   train_step_bench MODEL [-b 4] [-c 512] [-r 5] [--freeze-embedding] [--json]
//
// Without --json a table of the pieces of the blocks, each beside its ATen reference,
// timed in turns; with it the rate of whole steps (forward, loss, backward, AdamW).

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "schmidt/base/kept_memory.h"
#include "schmidt/heal/loss.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/kernels/causal_attention.h"
#include "schmidt/kernels/rms_norm.h"
#include "schmidt/kernels/rope.h"
#include "schmidt/kernels/swiglu.h"
#include "schmidt/model/model.h"

#include "bench/timing.h"

namespace schmidt {
namespace {

struct Options {
  std::string model;
  int64_t batch = 4, context = 512, repeats = 5;
  bool freeze_embedding = false, json = false;
};

// Milliseconds.
struct Times {
  std::vector<double> forward, backward;
  double total() const { return typical(forward) + typical(backward); }
};

using Work = std::function<torch::Tensor(const torch::Tensor&)>;

// One pass of `work` over x, which asks for a gradient, and back.
void measure(const Work& work, const torch::Tensor& x, Times& times) {
  const torch::Tensor leaf = x.detach().requires_grad_(true);
  torch::Tensor y;
  times.forward.push_back(1e3 * seconds([&] { y = work(leaf); }));
  const torch::Tensor dy = at::randn(y.sizes(), y.options());
  times.backward.push_back(1e3 * seconds([&] { y.backward(dy); }));
}

struct Piece {
  std::string name;
  torch::Tensor input;
  Work ours, reference;  // no reference: there is none but ours
  int64_t count;         // in the whole model
};

torch::Tensor random(const Options& o, int64_t width) {
  return at::randn({o.batch, o.context, width}, torch::kBFloat16);
}

// Layer by layer, as a group without stacked weights is computed.
Work layer_by_layer(const model::Model& m, const std::vector<model::LayerSpec>& layers) {
  std::map<std::string, torch::Tensor> weights;
  for (const auto& [name, tensor, role] : m.parameters()) weights[name] = tensor;
  std::vector<torch::Tensor> members;
  for (const model::LayerSpec& layer : layers) {
    const auto found = weights.find(layer.name + ".weight");
    if (found == weights.end()) return {};
    members.push_back(found->second);
  }
  return [members](const torch::Tensor& x) {
    std::vector<torch::Tensor> outputs;
    for (const torch::Tensor& weight : members) outputs.push_back(at::linear(x, weight));
    return outputs.size() == 1 ? outputs.front() : at::cat(outputs, -1);
  };
}

std::vector<Piece> pieces_of(const model::Model& m, const Options& o) {
  const model::ModelConfig& c = m.config();
  const model::Block& block = m.block(0);
  const int64_t qkv = c.q_features() + 2 * c.kv_features();
  const torch::Tensor weight = at::randn({c.hidden_size}, torch::kBFloat16).requires_grad_(true);
  const model::RopeTable rope = m.rope(o.context);
  std::vector<kernels::TokenSpan> spans;
  for (int64_t row = 0; row < o.batch; ++row) spans.push_back({row * o.context, o.context});

  std::vector<Piece> pieces;
  const std::array<std::string, 4> names = {"q, k, v", "o", "gate, up", "down"};
  const std::array<int64_t, 4> inputs = {c.hidden_size, c.q_features(), c.hidden_size,
                                         c.intermediate_size};
  for (const model::Group group : block.groups()) {
    const auto i = static_cast<size_t>(group.kind);
    pieces.push_back(
        {names[i], random(o, inputs[i]),
         [&block, group](const torch::Tensor& x) { return block.projection(group)->apply(x); },
         layer_by_layer(m, model::group_layers(c, 0, group)), c.num_layers});
  }
  const auto attention = [&c, spans](const auto& attend) -> Work {
    return [&c, spans, attend](const torch::Tensor& x) {
      const auto parts = x.flatten(0, 1)
                             .unflatten(-1, {-1, c.head_dim})
                             .split_with_sizes({c.num_heads, c.num_kv_heads, c.num_kv_heads}, 1);
      return attend(parts[0], parts[1], parts[2], spans, c.windows[0], kernels::Scores{});
    };
  };
  pieces.push_back({"attention", random(o, qkv), attention(kernels::causal_attention),
                    attention(kernels::causal_attention_reference), c.num_layers});
  const auto turned = [&c, rope](const auto& turn) -> Work {
    return [&c, rope, turn](const torch::Tensor& x) {
      return turn(x.unflatten(-1, {-1, c.head_dim}), rope.cos, rope.sin);
    };
  };
  pieces.push_back({"rope", random(o, c.q_features() + c.kv_features()), turned(kernels::rope),
                    turned(kernels::rope_reference), c.num_layers});
  const auto normed = [&c, weight](const auto& norm) -> Work {
    return [&c, weight, norm](const torch::Tensor& x) { return norm(x, weight, c.rms_norm_eps); };
  };
  pieces.push_back({"rms_norm", random(o, c.hidden_size), normed(kernels::rms_norm),
                    normed(kernels::rms_norm_reference), 2 * c.num_layers + 1});
  pieces.push_back({"swiglu", random(o, 2 * c.intermediate_size), kernels::swiglu,
                    kernels::swiglu_reference, c.num_layers});
  return pieces;
}

void reset_gradients(const std::vector<model::NamedTensor>& parameters) {
  for (const model::NamedTensor& p : parameters) p.tensor.mutable_grad().reset();
}

void print_pieces(const model::Model& m, const Options& o) {
  const auto parameters = m.parameters();
  const model::RopeTable rope = m.rope(o.context);
  const int64_t layers = m.config().num_layers;
  std::vector<Piece> pieces = pieces_of(m, o);
  pieces.push_back({"whole block",
                    random(o, m.config().hidden_size),
                    [&](const torch::Tensor& h) { return m.block(0).forward(h, rope); },
                    {},
                    layers});
  fmt::print("| piece | forward ms | backward ms | ATen, both ms | ratio | in the model s |\n");
  fmt::print("|---|---|---|---|---|---|\n");
  for (const Piece& piece : pieces) {
    Times ours, reference;
    for (int64_t i = 0; i <= o.repeats; ++i) {
      if (piece.reference) measure(piece.reference, piece.input, reference);
      reset_gradients(parameters);
      measure(piece.ours, piece.input, ours);
      reset_gradients(parameters);
    }
    fmt::print("| {} | {:.2f} | {:.2f} | {} | {} | {:.3f} |\n", piece.name, typical(ours.forward),
               typical(ours.backward),
               piece.reference ? fmt::format("{:.2f}", reference.total()) : "",
               piece.reference ? fmt::format("{:.2f}", reference.total() / ours.total()) : "",
               1e-3 * ours.total() * static_cast<double>(piece.count));
  }
}

// AdamW on float32 masters, which the model's tensors are rounded from.
class Optimizer {
 public:
  explicit Optimizer(std::vector<torch::Tensor> parameters) : parameters_(std::move(parameters)) {
    for (const torch::Tensor& p : parameters_) {
      masters_.push_back(p.detach().to(torch::kFloat32));
      first_.push_back(at::zeros_like(masters_.back()));
      second_.push_back(at::zeros_like(masters_.back()));
      steps_.push_back(at::zeros({}, torch::kFloat32));
    }
  }

  void step() {
    const at::NoGradGuard no_grad;
    std::vector<torch::Tensor> gradients;
    for (const torch::Tensor& p : parameters_) gradients.push_back(p.grad().to(torch::kFloat32));
    for (const torch::Tensor& step : steps_) step.add_(1);
    at::_fused_adamw_(masters_, gradients, first_, second_, {}, steps_, /*lr=*/1e-4, 0.9, 0.95,
                      /*weight_decay=*/0.0, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
    for (size_t i = 0; i < parameters_.size(); ++i) {
      parameters_[i].copy_(masters_[i]);
      parameters_[i].mutable_grad().reset();
    }
  }

 private:
  std::vector<torch::Tensor> parameters_, masters_, first_, second_, steps_;
};

// Cross entropy of all positions, as healing computes it -> the gradient of the final
// hidden states.
torch::Tensor head(const model::Model& m, const torch::Tensor& hidden, const torch::Tensor& ids) {
  const torch::Tensor leaf = hidden.detach().requires_grad_(true);
  const double share = 1.0 / static_cast<double>(ids.numel());
  const heal::HeadLoss loss = heal::head_loss(m, leaf.flatten(0, 1), ids.flatten(), {},
                                              {.cross_entropy = 1.0, .kl = 0.0}, share);
  loss.loss.backward();
  return leaf.grad();
}

void print_rate(const model::Model& m, const Options& o) {
  std::vector<torch::Tensor> trained;
  for (const auto& [name, tensor, role] : m.parameters()) {
    if (tensor.requires_grad()) trained.push_back(tensor);
  }
  Optimizer optimizer(trained);
  const torch::Tensor ids = at::randint(m.config().vocab_size, {o.batch, o.context}, torch::kInt64);
  std::vector<double> forward, loss, backward, update, whole;
  for (int64_t i = 0; i <= o.repeats; ++i) {
    torch::Tensor hidden, gradient;
    forward.push_back(seconds([&] { hidden = m.hidden(ids); }));
    loss.push_back(seconds([&] { gradient = head(m, hidden, ids); }));
    backward.push_back(seconds([&] { hidden.backward(gradient); }));
    update.push_back(seconds([&] { optimizer.step(); }));
    whole.push_back(forward.back() + loss.back() + backward.back() + update.back());
  }
  fmt::print(
      R"({{"tokens_per_second": {:.2f}, "seconds": {:.4f}, "forward": {:.4f}, "head": {:.4f}, )"
      R"("backward": {:.4f}, "update": {:.4f}, "threads": {}}})"
      "\n",
      static_cast<double>(o.batch * o.context) / typical(whole), typical(whole), typical(forward),
      typical(loss), typical(backward), typical(update), at::get_num_threads());
}

int run(const Options& o) {
  keep_freed_memory();
  const model::Model m = model::Model::load(io::Checkpoint::open(o.model),
                                            {.dtype = torch::kBFloat16, .free_gauge = true});
  for (const auto& [name, tensor, role] : m.parameters()) {
    tensor.set_requires_grad(!o.freeze_embedding || name != "model.embed_tokens.weight");
  }
  if (o.json) {
    print_rate(m, o);
  } else {
    print_pieces(m, o);
  }
  return 0;
}

}  // namespace
}  // namespace schmidt

int main(int argc, char** argv) {
  schmidt::Options options;
  CLI::App app("One training step and where its time goes");
  app.add_option("model", options.model, "model folder or .gguf file")->required();
  app.add_option("-b,--batch", options.batch, "rows of a step");
  app.add_option("-c,--context", options.context, "tokens of a row");
  app.add_option("-r,--repeats", options.repeats, "timed repeats, after one that warms up");
  app.add_flag("--freeze-embedding", options.freeze_embedding, "train all but the embedding");
  app.add_flag("--json", options.json, "time whole steps instead of pieces");
  CLI11_PARSE(app, argc, argv);
  return schmidt::run(options);
}
