#include "schmidt/calibrate/statistics.h"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/format_error.h"
#include "schmidt/calibrate/symmetric.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tensor_spill.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/tn/convergence.h"
#include "schmidt/tn/magnitude.h"

namespace schmidt::calibrate {
namespace {

namespace fs = std::filesystem;
using model::Group;

/// Rows of logits that are held at once.
constexpr int64_t kLogitRows = 256;

/// Of the layout of a block's file.
constexpr const char* kVersion = "statistics 2";

const char* inputs_name(Group group) {
  switch (group) {
    case Group::kQkv:
      return "qkv.inputs";
    case Group::kOut:
      return "out.inputs";
    case Group::kGateUp:
      return "gate_up.inputs";
    case Group::kDown:
      return "down.inputs";
  }
  TORCH_INTERNAL_ASSERT(false, "[statistics] unknown group");
}

/// G and the gradient's moments as sums over tokens, float32.
struct Sums {
  torch::Tensor inputs;    // [n, n], of a group
  torch::Tensor gradient;  // [k, k], of a layer
  torch::Tensor outputs;   // [m, m], of a layer, beside a smaller `gradient`
  double square = 0.0;     // of the gradient, all outputs

  static void add(torch::Tensor& sum, const torch::Tensor& x) {  // x [tokens, k]
    const torch::Tensor wide = x.to(torch::kFloat32);
    sum.addmm_(wide.t(), wide);
  }
};

class Collector {
 public:
  Collector(const io::Checkpoint& checkpoint, const StreamedModel& model,
            const std::vector<plan::Layer>& layers, const torch::Tensor& windows, fs::path folder,
            const StatisticsOptions& options, const ProgressFn& progress)
      : checkpoint_(checkpoint),
        model_(model),
        layers_(layers),
        windows_(windows),
        folder_(std::move(folder)),
        options_(options),
        progress_(progress),
        blocks_(model.config().num_layers),
        batches_((windows.size(0) + options.batch - 1) / options.batch),
        rope_(model.rope(windows.size(1))) {
    for (int64_t b = 0; b < batches_; ++b) {
      if (options.workers.takes(b)) own_.push_back(b);
    }
  }

  /// `done` counts steps: blocks_ + 1 forward (the embedding is one), then one for the
  /// head and one for each block backward.
  void run(int64_t done, const std::function<void(int64_t)>& save) {
    for (int64_t step = done; step < total_steps(); ++step) {
      if (progress_) progress_({"calibrate", "", step, total_steps(), "passes through a block"});
      // A step is done when all have done their batches of it.
      if (step == 0) {
        for (int64_t i = 0; i <= blocks_; ++i) open(stream_path(i));  // a full disk shows now
        embed();
      } else if (step <= blocks_) {
        forward(step - 1);
      } else if (step == blocks_ + 1) {
        head();
      } else {
        backward(2 * blocks_ + 1 - step);
      }
      options_.workers.meet();
      if (options_.workers.first()) save(step + 1);
    }
    options_.workers.meet();
  }

  int64_t total_steps() const { return 2 * blocks_ + 2; }

  void remove_streams() const {
    for (int64_t i = 0; i <= blocks_; ++i) fs::remove(stream_path(i));
    for (int64_t i = 0; i < 2; ++i) fs::remove(gradient_path(i));
  }

 private:
  fs::path stream_path(int64_t block) const { return folder_ / fmt::format("stream.{}", block); }
  fs::path gradient_path(int64_t block) const {
    return folder_ / fmt::format("gradient.{}", block % 2);
  }
  io::TensorSpill open(const fs::path& path) const {
    return io::TensorSpill(path, batches_,
                           {options_.batch, windows_.size(1), model_.config().hidden_size},
                           model_.options().dtype);
  }
  /// Valid windows of a batch; the last one may be short.
  int64_t count(int64_t batch) const {
    return std::min(options_.batch, windows_.size(0) - batch * options_.batch);
  }
  torch::Tensor read(const io::TensorSpill& spill, int64_t batch) const {
    return spill.read(batch).narrow(0, 0, count(batch)).to(model_.options().device);
  }
  void write(io::TensorSpill& spill, int64_t batch, const torch::Tensor& h) const {
    torch::Tensor slot = at::zeros({options_.batch, windows_.size(1), model_.config().hidden_size},
                                   h.options().device(torch::kCPU));
    slot.narrow(0, 0, count(batch)).copy_(h);
    spill.write(batch, slot);
  }

  void embed() {
    const at::NoGradGuard no_grad;
    io::TensorSpill out = open(stream_path(0));
    std::vector<torch::Tensor> own;
    for (const int64_t b : own_) own.push_back(windows_.narrow(0, b * options_.batch, count(b)));
    const torch::Tensor h = own.empty() ? torch::Tensor() : model_.embed(at::cat(own));
    int64_t row = 0;
    for (const int64_t b : own_) {
      write(out, b, h.narrow(0, row, count(b)));
      row += count(b);
    }
    out.sync();
  }

  void forward(int64_t index) {
    const at::NoGradGuard no_grad;
    const model::Block block = model_.block(index);
    const io::TensorSpill in = open(stream_path(index));
    io::TensorSpill out = open(stream_path(index + 1));
    for (const int64_t b : own_) write(out, b, block.forward(read(in, b), rope_));
    out.sync();
  }

  void head() {
    const StreamedModel::Head head = model_.head();
    const io::TensorSpill in = open(stream_path(blocks_));
    io::TensorSpill out = open(gradient_path(blocks_));
    for (const int64_t b : own_) {
      const torch::Tensor h = read(in, b).flatten(0, 1);  // [tokens, hidden]
      TORCH_CHECK_VALUE(std::isfinite(tn::largest_entry(h)),
                        "[calibrate] expected finite states after the last block, got NaN or "
                        "infinity: the model's activations overflow in ",
                        c10::toString(h.scalar_type()));
      torch::Tensor gradient = at::empty_like(h);
      // A generator for each batch, so that a resumed run draws the same tokens.
      auto generator = at::detail::createCPUGenerator(options_.seed * 1'000'003 + b);
      for (int64_t begin = 0; begin < h.size(0); begin += kLogitRows) {
        const int64_t rows = std::min(kLogitRows, h.size(0) - begin);
        const torch::Tensor part = h.narrow(0, begin, rows).detach().requires_grad_();
        const torch::Tensor log_p =
            at::log_softmax(head.logits(part).to(torch::kFloat32), -1);  // [rows, vocab]
        const torch::Tensor drawn =
            at::multinomial(log_p.detach().exp().cpu(), 1, false, generator).to(h.device());
        const torch::Tensor nll = -log_p.gather(1, drawn).sum();
        gradient.narrow(0, begin, rows).copy_(torch::autograd::grad({nll}, {part})[0]);
      }
      write(out, b, gradient.unflatten(0, {count(b), windows_.size(1)}));
    }
    out.sync();
  }

  void backward(int64_t index) {
    const model::Block block = model_.block(index);
    const io::TensorSpill in = open(stream_path(index));
    const io::TensorSpill above = open(gradient_path(index + 1));
    io::TensorSpill below = open(gradient_path(index));

    std::vector<const plan::Layer*> layers;
    for (const plan::Layer& layer : layers_) {
      if (layer.block == index) layers.push_back(&layer);
    }
    std::map<std::string, torch::Tensor> weights;
    for (const plan::Layer* layer : layers) {
      weights[layer->name] =
          plan::load_weight(checkpoint_, *layer).to(model_.options().device, torch::kFloat32);
    }
    std::map<Group, torch::Tensor> inputs;  // sums of x x^T
    std::map<std::string, Sums> sums;
    for (const plan::Layer* layer : layers) {
      inputs.try_emplace(layer->group(), none(layer->cols));
      Sums& sum = sums[layer->name];
      sum.gradient = none(pulled_back(*layer) ? layer->cols : layer->rows);
      if (keeps_outputs(*layer)) sum.outputs = none(layer->rows);
    }
    for (const int64_t b : own_) {
      const Pass pass = differentiate(block, read(in, b), read(above, b));
      write(below, b, pass.input_gradient);
      const at::NoGradGuard no_grad;
      for (auto& [group, sum] : inputs) Sums::add(sum, pass.inputs.at(group));
      for (const plan::Layer* layer : layers) {
        const torch::Tensor g = rows_of(*layer, pass.gradients.at(layer->group()));
        const torch::Tensor& w = weights.at(layer->name);
        Sums& sum = sums.at(layer->name);
        sum.square += g.square().sum().item<double>();
        Sums::add(sum.gradient, pulled_back(*layer) ? at::matmul(g, w) : g);
        if (keeps_outputs(*layer)) Sums::add(sum.outputs, g);
      }
    }
    below.sync();
    for (auto& [group, sum] : inputs) sum = options_.workers.summed(sum);
    for (auto& [name, sum] : sums) {
      sum.gradient = options_.workers.summed(sum.gradient);
      if (sum.outputs.defined()) sum.outputs = options_.workers.summed(sum.outputs);
      const torch::Tensor square = at::full({1}, sum.square, torch::kFloat64);
      sum.square = options_.workers.summed(square).item<double>();
    }
    if (options_.workers.first()) save(index, layers, weights, inputs, sums);
  }

  /// Inputs [tokens, n] and gradients at the outputs [tokens, m] of each group.
  struct Pass {
    std::map<Group, torch::Tensor> inputs, gradients;
    torch::Tensor input_gradient;  // of the block's input [b, t, hidden]
  };

  Pass differentiate(const model::Block& block, torch::Tensor h, const torch::Tensor& above) const {
    const at::AutoGradMode grad(true);
    h.requires_grad_();
    Pass pass;
    std::vector<torch::Tensor> outputs;
    const auto project = [&](Group group, const torch::Tensor& source) {
      const torch::Tensor x = block.input_of(group, source, rope_);
      pass.inputs[group] = x.detach().flatten(0, 1);
      outputs.push_back(block.projection(group)->apply(x));
      return outputs.back();
    };
    const torch::Tensor attended = h + project(Group::kOut, project(Group::kQkv, h));
    const torch::Tensor out = attended + project(Group::kDown, project(Group::kGateUp, attended));
    const auto gradients =
        torch::autograd::grad({out}, {h, outputs[0], outputs[1], outputs[2], outputs[3]}, {above});
    pass.input_gradient = gradients[0];
    for (size_t i = 0; i < model::kGroups.size(); ++i) {
      pass.gradients[model::kGroups[i]] = gradients[i + 1].flatten(0, 1).to(torch::kFloat32);
    }
    return pass;
  }

  torch::Tensor none(int64_t size) const {
    return at::zeros({size, size},
                     at::TensorOptions(torch::kFloat32).device(model_.options().device));
  }

  static bool pulled_back(const plan::Layer& layer) { return layer.cols <= layer.rows; }
  bool keeps_outputs(const plan::Layer& layer) const {
    return options_.outputs && pulled_back(layer) && layer.rows <= kJudgedOutputs;
  }

  /// The layer's part of its group's outputs.
  torch::Tensor rows_of(const plan::Layer& layer, const torch::Tensor& outputs) const {
    int64_t begin = 0;
    for (const model::LayerSpec& spec :
         model::group_layers(model_.config(), layer.block, layer.group())) {
      if (spec.name == layer.members.front()) break;
      begin += spec.out_features;
    }
    return outputs.narrow(1, begin, layer.rows);
  }

  void save(int64_t index, const std::vector<const plan::Layer*>& layers,
            const std::map<std::string, torch::Tensor>& weights,
            const std::map<Group, torch::Tensor>& inputs, const std::map<std::string, Sums>& sums) {
    const auto tokens = static_cast<double>(windows_.numel());
    std::vector<std::pair<std::string, torch::Tensor>> tensors;
    for (const auto& [group, sum] : inputs) {
      tensors.emplace_back(inputs_name(group), packed(sum / tokens));
    }
    for (const plan::Layer* layer : layers) {
      const Sums& sum = sums.at(layer->name);
      check_finite_moments(layer->name, inputs.at(layer->group()));
      check_finite_moments(layer->name, sum.gradient);
      const GradientMoments gradient{sum.gradient / tokens, pulled_back(*layer),
                                     sum.square / tokens / static_cast<double>(layer->rows)};
      tensors.emplace_back(layer->name + ".gradient", packed(gradient.moments));
      if (sum.outputs.defined()) {
        tensors.emplace_back(layer->name + ".outputs", packed(sum.outputs / tokens));
      }
      const torch::Tensor squares =
          tn::until_it_converges(layer->name, "its spectrum", [&](bool wide) {
            const torch::Tensor& w = weights.at(layer->name);
            const MetricPair pair =
                metric_pair(wide ? w.to(torch::kFloat64) : w, std::nullopt,
                            inputs.at(layer->group()) / tokens, gradient, options_.damping, 0.0);
            torch::Tensor found = weighted_squares(pair.a, pair.b);
            tn::check_converged(found);
            return found;
          });
      tensors.emplace_back(layer->name + ".squares", squares.cpu().contiguous());
      tensors.emplace_back(layer->name + ".mean_square",
                           at::full({}, gradient.mean_square, torch::kFloat64));
    }
    io::save_safetensors(folder_ / fmt::format("block.{}.safetensors", index), tensors);
  }

  const io::Checkpoint& checkpoint_;
  const StreamedModel& model_;
  const std::vector<plan::Layer>& layers_;
  const torch::Tensor& windows_;  // int64 [windows, t]
  fs::path folder_;
  const StatisticsOptions& options_;
  const ProgressFn& progress_;
  int64_t blocks_;
  int64_t batches_;
  std::vector<int64_t> own_;  // batches of this worker
  model::RopeTable rope_;
};

std::string fingerprint_of(const io::Checkpoint& checkpoint, const StreamedModel& model,
                           const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                           const StatisticsOptions& options) {
  package::Fingerprint hash;
  hash.add(kVersion)
      .add(package::fingerprint(checkpoint))
      .add(c10::toString(model.options().dtype));
  for (const plan::Layer& layer : layers) hash.add(layer.name);
  const torch::Tensor ids = windows.contiguous();
  hash.add(fmt::format("{}x{}", ids.size(0), ids.size(1)));
  hash.add({static_cast<const char*>(ids.const_data_ptr()), ids.nbytes()});
  hash.add(fmt::format("{} {} {}", options.batch, options.damping, options.seed));
  if (options.outputs) hash.add("outputs");
  return hash.hex();
}

/// Steps that a folder holds of the work of that fingerprint; none if it holds other work.
std::optional<int64_t> steps_done(const fs::path& path, const std::string& fingerprint) {
  if (!fs::exists(path)) return 0;
  const nlohmann::json json = io::read_json_object(path);
  if (json.value("fingerprint", "") != fingerprint) return std::nullopt;
  return json.value("done", int64_t{0});
}

void make_folder(const fs::path& folder) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec) throw SystemError("cannot make folder", folder, ec.value());
}

}  // namespace

Statistics Statistics::collect(const io::Checkpoint& checkpoint, const StreamedModel& model,
                               const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                               const fs::path& folder, const StatisticsOptions& options,
                               const ProgressFn& progress) {
  TORCH_CHECK_VALUE(
      windows.dim() == 2 && windows.size(0) > 0 && windows.size(1) <= model.config().max_positions,
      "[statistics] expected windows of at most ", model.config().max_positions, " tokens, got ",
      windows.sizes());
  TORCH_CHECK_VALUE(windows.min().item<int64_t>() >= 0 &&
                        windows.max().item<int64_t>() < model.config().vocab_size,
                    "[statistics] expected token ids below ", model.config().vocab_size);
  make_folder(folder);
  const std::string fingerprint = fingerprint_of(checkpoint, model, layers, windows, options);
  const fs::path state_path = folder / "statistics.json";
  const std::optional<int64_t> held = steps_done(state_path, fingerprint);
  TORCH_CHECK_VALUE(held || options.force, "[statistics] ", folder.string(),
                    " was made from another model, other layers, calibration text or options, or "
                    "by another version; expected the same again, or a new folder");
  options.workers.meet();  // before the first of them writes another state
  if (!held) {
    if (options.workers.first()) {
      fs::remove_all(folder);
      make_folder(folder);
    }
    options.workers.meet();
  }
  const auto save = [&](int64_t done) {
    write_file_atomically(
        state_path,
        nlohmann::json{{"fingerprint", fingerprint}, {"done", done}, {"tokens", windows.numel()}}
            .dump());
  };
  if (held.value_or(0) == 0 && options.workers.first()) save(0);
  Collector collector(checkpoint, model, layers, windows, folder, options, progress);
  collector.run(held.value_or(0), save);
  if (options.workers.first()) collector.remove_streams();
  return {folder, fingerprint};
}

LayerStatistics Statistics::of(const plan::Layer& layer) const {
  const auto tensors = load(layer, layer.name + ".");
  const auto outputs = tensors.find(layer.name + ".outputs");
  return {{unpacked(tensors.at(layer.name + ".gradient")), layer.cols <= layer.rows,
           tensors.at(layer.name + ".mean_square").item<double>(),
           outputs == tensors.end() ? torch::Tensor() : unpacked(outputs->second)},
          tensors.at(layer.name + ".squares")};
}

torch::Tensor Statistics::inputs(const plan::Layer& layer) const {
  return unpacked(load(layer, inputs_name(layer.group())).begin()->second);
}

torch::Tensor Statistics::squares(const plan::Layer& layer) const {
  return load(layer, layer.name + ".squares").begin()->second;
}

std::map<std::string, torch::Tensor> Statistics::load(const plan::Layer& layer,
                                                      const std::string& prefix) const {
  auto tensors =
      io::load_safetensors(folder_ / fmt::format("block.{}.safetensors", layer.block), prefix);
  TORCH_CHECK_VALUE(!tensors.empty(), "[statistics] expected a layer that was calibrated, got ",
                    layer.name);
  return tensors;
}

}  // namespace schmidt::calibrate
