#include "schmidt/calibrate/statistics.h"

#include <array>
#include <cmath>
#include <functional>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/calibrate/block_gradients.h"
#include "schmidt/calibrate/embedded_text.h"
#include "schmidt/calibrate/saved_position.h"
#include "schmidt/calibrate/statistics_folder.h"
#include "schmidt/calibrate/symmetric.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/kernels/moments.h"
#include "schmidt/model/vocabulary_scale.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/tn/convergence.h"
#include "schmidt/tn/magnitude.h"

namespace schmidt::calibrate {
namespace {

namespace fs = std::filesystem;
using model::Group;

/// Logits that are held at once: what an allocator gives again without asking the system.
constexpr int64_t kLogits = int64_t{1} << 22;
constexpr int64_t kLeastLogitRows = 64;  // the output layer is read for each part of them

/// Ends of the names of a layer's DiagonalFisher.
constexpr const char* kRows = ".fisher_rows";
constexpr const char* kColumns = ".fisher_columns";
/// In place of the columns, of the embedding and the output layer.
constexpr const char* kMoments = ".fisher_moments";

constexpr const char* kIdleExperts = "idle_experts";

/// Of the layout of a block's file.
constexpr const char* kVersion = "statistics 6";

std::string inputs_name(Group group) {
  static constexpr std::array<std::string_view, 4> kKinds = {"qkv", "out", "gate_up", "down"};
  return fmt::format("{}{}.inputs", group.expert ? fmt::format("expert.{}.", *group.expert) : "",
                     kKinds.at(group.kind));
}

/// G and the gradient's moments as sums over tokens, float32.
struct Sums {
  torch::Tensor inputs;    // [n, n], of a group
  torch::Tensor gradient;  // [k, k], of a layer; undefined where it is made of `outputs`
  torch::Tensor outputs;   // [m, m], of a layer, beside or in place of `gradient`
  torch::Tensor rows;      // g^2 |x|^2 [m]
  torch::Tensor columns;   // |g|^2 x^2 [n]
  double square = 0.0;     // of the gradient, all outputs
};

/// Of the embedding or the output layer, sums over tokens, float32.
struct VocabularySums {
  torch::Tensor rows;     // [vocab]
  torch::Tensor moments;  // [hidden, hidden]
};

/// A token of each row of probabilities [rows, vocab] -> int64 [rows, 1].
torch::Tensor drawn_from(const torch::Tensor& p, const at::Generator& generator) {
  constexpr double kBelowOne = 1 - 1e-6;  // rounding cannot take the place past the last token
  const torch::Tensor sums = p.cumsum(-1);
  TORCH_CHECK_VALUE(sums.slice(-1, -1).isfinite().all().item<bool>(),
                    "[calibrate] expected probabilities, got NaN: the model's logits overflow");
  const torch::Tensor share =
      at::rand({p.size(0), 1}, generator, at::TensorOptions(torch::kFloat32));
  const torch::Tensor place = share.to(p.device()).clamp_max(kBelowOne) * sums.slice(-1, -1);
  return at::searchsorted(sums, place, /*out_int32=*/false, /*right=*/true);
}

constexpr const char* kEmbedding = "embedding";  // names of the files' tensors begin so
constexpr const char* kHead = "head";

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
        hidden_(model.config().hidden_size),
        space_(TextBatches::of(windows, options.batch, options.workers), unfinished(),
               model.options().dtype, model.options().device, options.activations.memory),
        forward_(unfinished(), "forward", options.workers, options.activations.save_after),
        backward_(unfinished(), "backward", options.workers, options.activations.save_after),
        rope_(model.rope(windows.size(1))) {}

  /// Forward, a step for the embedding and for each block, then backward, one for the head and
  /// for each block. A block's file is finished when it is there; a run after a kill goes forward
  /// and backward again from the places that were saved, without the sums of finished blocks.
  void run() {
    const int64_t open = open_blocks();
    if (open > 0) {
      std::optional<int64_t> place = backward_.place();
      if (place && *place < open) place.reset();  // a file of those above is gone
      if (open == blocks_) place.reset();         // the last block's file has the head's sums
      std::vector<ActivationStream> residual = forward_to(place ? *place - 1 : blocks_);
      ActivationStream gradient;
      if (place) {
        gradient = space_.kept(gradient_name(*place), hidden_);
      } else {
        report(blocks_ + 1);
        gradient = head(residual.back());
        residual.pop_back();
      }
      for (int64_t index = place.value_or(blocks_) - 1; index >= 0; --index) {
        report(2 * blocks_ + 1 - index);
        gradient = backward(index, residual.back(), std::move(gradient), index < open);
        residual.pop_back();
        save_gradient(index, gradient);
      }
    }
    options_.workers.meet();
    if (options_.workers.first()) remove_tree(unfinished());
  }

 private:
  fs::path unfinished() const { return folder_ / "unfinished"; }
  fs::path block_file(int64_t index) const {
    return folder_ / fmt::format("block.{}.safetensors", index);
  }
  static std::string gradient_name(int64_t block) { return fmt::format("gradient.{}", block); }

  void report(int64_t step) const {
    if (progress_) progress_({"calibrate", "", step, 2 * blocks_ + 2, "passes through a block"});
  }

  /// Blocks [0, n) are not finished: they are worked on from the last to the first.
  int64_t open_blocks() const {
    int64_t open = blocks_;
    while (open > 0 && path_exists(block_file(open - 1))) --open;
    return static_cast<int64_t>(options_.workers.agreed(static_cast<double>(open)));
  }

  /// The residual stream before blocks 0, 1, .., last.
  std::vector<ActivationStream> forward_to(int64_t last) {
    const at::NoGradGuard no_grad;
    const int64_t kept = forward_.place().value_or(-1);
    std::vector<ActivationStream> residual;
    for (int64_t i = 0; i <= last; ++i) {
      const std::string name = fmt::format("residual.{}", i);
      if (i <= kept) {
        residual.push_back(space_.kept(name, hidden_));
        continue;
      }
      report(i);
      {
        const SavedPosition::Work work(forward_);
        if (i == 0) {
          residual.push_back(
              embedded_text([&](const torch::Tensor& ids) { return model_.embed(ids); }, windows_,
                            space_, name, hidden_));
        } else {
          const model::Block block = model_.block(i - 1);
          ActivationStream stream = space_.make(name, hidden_);
          for (const int64_t b : own()) {
            const torch::Tensor h = residual.back().read(b);
            torch::Tensor next = at::empty_like(h);
            for_pieces(h.size(0), [&](int64_t begin, int64_t count) {
              next.narrow(0, begin, count).copy_(block.forward(h.narrow(0, begin, count), rope_));
            });
            stream.write(b, next);
          }
          residual.push_back(std::move(stream));
        }
      }
      if (!forward_.due()) continue;
      std::vector<ActivationStream*> all;
      for (ActivationStream& stream : residual) all.push_back(&stream);
      forward_.save(i, all);
    }
    return residual;
  }

  void save_gradient(int64_t block, ActivationStream& gradient) {
    if (block > 0 && backward_.due()) backward_.save(block, {&gradient});
  }

  const std::vector<int64_t>& own() const { return space_.batches().own; }
  int64_t rows(int64_t batch) const {
    return space_.batches().shapes[static_cast<size_t>(batch)].rows;
  }

  /// The gradient of log p at `in`, the residual stream after the last block.
  ActivationStream head(const ActivationStream& in) {
    const SavedPosition::Work work(backward_);
    const StreamedModel::Head head = model_.head();
    const int64_t logit_rows = std::max(kLeastLogitRows, kLogits / model_.config().vocab_size);
    head_ = {zeros(model_.config().vocab_size), none(hidden_)};
    ActivationStream out = space_.make(gradient_name(blocks_), hidden_);
    for (const int64_t b : own()) {
      const torch::Tensor h = in.read(b).flatten(0, 1);  // [tokens, hidden]
      TORCH_CHECK_VALUE(std::isfinite(tn::largest_entry(h)),
                        "[calibrate] expected finite states after the last block, got NaN or "
                        "infinity: the model's activations overflow in ",
                        c10::toString(h.scalar_type()));
      torch::Tensor gradient = at::empty_like(h);
      {
        const at::NoGradGuard no_grad;
        kernels::add_moments(head_.moments, head.normed(h));
      }
      // A generator for each batch, so that a resumed run draws the same tokens.
      auto generator = at::detail::createCPUGenerator(options_.seed * 1'000'003 + b);
      for (int64_t begin = 0; begin < h.size(0); begin += logit_rows) {
        const int64_t rows = std::min(logit_rows, h.size(0) - begin);
        const torch::Tensor part = h.narrow(0, begin, rows).detach().requires_grad_();
        const torch::Tensor logits = head.logits(part);  // [rows, vocab]
        const torch::Tensor p = at::softmax(logits.detach().to(torch::kFloat32), -1);
        const torch::Tensor drawn = drawn_from(p, generator);
        {
          const at::NoGradGuard no_grad;
          // The expected square of the gradient at the output layer's outputs.
          torch::Tensor squares = p.addcmul(p, p, -1);
          const auto slopes = model::logit_slopes(model_.config(), logits.to(torch::kFloat32));
          if (slopes) squares.mul_(slopes->square());
          head_.rows += squares.sum(0);
        }
        // Of -log p at the logits.
        const torch::Tensor slope = p.scatter_add(-1, drawn, at::full_like(drawn, -1, p.options()));
        gradient.narrow(0, begin, rows)
            .copy_(torch::autograd::grad({logits}, {part}, {slope.to(logits.scalar_type())})[0]);
      }
      out.write(b, gradient.unflatten(0, {rows(b), windows_.size(1)}));
    }
    return out;
  }

  /// The gradient before a block, of its inputs and the gradient after it; its file too, if it is
  /// to be made.
  ActivationStream backward(int64_t index, ActivationStream& in, ActivationStream above,
                            bool make_file) {
    const model::Block block = model_.block(index);
    ActivationStream below = space_.make(gradient_name(index), hidden_);
    const auto differentiated = [&](int64_t b,
                                    const std::function<void(const BlockGradients&)>& use) {
      const torch::Tensor h = in.take(b), after = above.take(b);
      torch::Tensor gradient = at::empty_like(h);
      for_pieces(h.size(0), [&](int64_t begin, int64_t count) {
        const BlockGradients pass = [&] {
          const SavedPosition::Work work(backward_);
          return differentiate(block, h.narrow(0, begin, count), after.narrow(0, begin, count),
                               rope_);
        }();
        gradient.narrow(0, begin, count).copy_(pass.input_gradient);
        use(pass);
      });
      below.write(b, gradient);
      return gradient;
    };
    if (!make_file) {
      for (const int64_t b : own()) differentiated(b, [](const BlockGradients& /*pass*/) {});
      return below;
    }

    std::vector<const plan::Layer*> layers;
    for (const plan::Layer& layer : layers_) {
      if (layer.block == index) layers.push_back(&layer);
    }
    std::map<std::string, torch::Tensor> weights;
    for (const plan::Layer* layer : layers) {
      weights[layer->name] =
          plan::load_weight(checkpoint_, *layer).to(model_.options().device, torch::kFloat32);
    }
    if (index == 0) embedding_ = {zeros(model_.config().vocab_size), none(hidden_)};
    std::map<Group, torch::Tensor> inputs;  // sums of x x^T
    std::map<std::string, Sums> sums;
    for (const plan::Layer* layer : layers) {
      inputs.try_emplace(layer->group(), none(layer->cols));
      Sums& sum = sums[layer->name];
      const bool of_outputs = makes_gradient_of_outputs(*layer);
      if (of_outputs || keeps_outputs(*layer)) sum.outputs = none(layer->rows);
      if (!of_outputs) sum.gradient = none(pulled_back(*layer) ? layer->cols : layer->rows);
      sum.rows = zeros(layer->rows);
      sum.columns = zeros(layer->cols);
    }
    const auto add = [&](const BlockGradients& pass) {
      const at::NoGradGuard no_grad;
      std::map<Group, torch::Tensor> squares;  // |x|^2 of a group's inputs [tokens]
      for (auto& [group, sum] : inputs) {
        kernels::add_moments(sum, pass.inputs.at(group));
        squares[group] = kernels::row_squares(pass.inputs.at(group));
      }
      for (const plan::Layer* layer : layers) {
        const torch::Tensor g = rows_of(*layer, pass.gradients.at(layer->group()));
        const torch::Tensor& w = weights.at(layer->name);
        Sums& sum = sums.at(layer->name);
        const torch::Tensor g_squares = kernels::row_squares(g);
        sum.square += g_squares.sum(torch::kFloat64).item<double>();
        kernels::add_weighted_squares(sum.rows, squares.at(layer->group()), g);
        kernels::add_weighted_squares(sum.columns, g_squares, pass.inputs.at(layer->group()));
        if (sum.outputs.defined()) kernels::add_moments(sum.outputs, g);
        if (sum.gradient.defined()) {
          kernels::add_moments(sum.gradient, pulled_back(*layer) ? at::matmul(g, w.to(g)) : g);
        }
      }
    };
    for (const int64_t b : own()) {
      const torch::Tensor gradient = differentiated(b, add);
      if (index == 0) add_embedding(b, gradient);
    }
    const auto whole = [&](const torch::Tensor& sum) {
      return completed(options_.workers.summed(sum));
    };
    for (auto& [group, sum] : inputs) sum = whole(sum);
    for (auto& [name, sum] : sums) {
      if (sum.outputs.defined()) sum.outputs = whole(sum.outputs);
      sum.gradient =
          sum.gradient.defined() ? whole(sum.gradient) : taken_back(sum.outputs, weights.at(name));
      sum.rows = options_.workers.summed(sum.rows);
      sum.columns = options_.workers.summed(sum.columns);
      const torch::Tensor square = at::full({1}, sum.square, torch::kFloat64);
      sum.square = options_.workers.summed(square).item<double>();
    }
    for (VocabularySums* sum : {&embedding_, &head_}) {
      if (index != (sum == &head_ ? blocks_ - 1 : 0)) continue;
      sum->rows = options_.workers.summed(sum->rows);
      sum->moments = whole(sum->moments);
    }
    if (options_.workers.first()) save(index, layers, weights, inputs, sums);
    return below;
  }

  /// The tokens of a batch, and the gradient at their rows of the embedding.
  void add_embedding(int64_t batch, const torch::Tensor& gradient) {
    const torch::Tensor ids =
        windows_.narrow(0, space_.batches().begin(batch), rows(batch)).flatten().cpu();
    embedding_.rows += at::bincount(ids, {}, embedding_.rows.size(0)).to(embedding_.rows.options());
    const double scale = model_.config().embedding_scale;
    kernels::add_moments(embedding_.moments, gradient.to(torch::kFloat32).flatten(0, 1) * scale);
  }

  /// Goes through the windows of a batch in pieces, on a CPU of so many that what a block makes of
  /// them stays in its caches: that takes a tenth less time.
  void for_pieces(int64_t windows, const std::function<void(int64_t, int64_t)>& use) const {
    constexpr int64_t kWindowsAtOnce = 4;
    const int64_t most = model_.options().device.is_cpu() ? kWindowsAtOnce : windows;
    for (int64_t begin = 0; begin < windows; begin += most) {
      use(begin, std::min(most, windows - begin));
    }
  }

  torch::Tensor none(int64_t size) const { return zeros(size * size).unflatten(0, {size, size}); }

  torch::Tensor zeros(int64_t size) const {
    return at::zeros({size}, at::TensorOptions(torch::kFloat32).device(model_.options().device));
  }

  static bool pulled_back(const plan::Layer& layer) { return layer.cols <= layer.rows; }
  bool keeps_outputs(const plan::Layer& layer) const {
    return options_.outputs && pulled_back(layer) && layer.rows <= kJudgedOutputs;
  }

  /// Whether the gradient's moments at the inputs' side are made of H, where that is kept anyway
  /// or takes fewer products than to pull each token's gradient back. An expert has few tokens.
  bool makes_gradient_of_outputs(const plan::Layer& layer) const {
    if (layer.expert || !pulled_back(layer)) return false;
    if (keeps_outputs(layer)) return true;
    const auto m = static_cast<double>(layer.rows), n = static_cast<double>(layer.cols);
    const double saved = (n * (2 * m + n) - m * m) / 2;  // of each token
    return saved * static_cast<double>(windows_.numel()) > m * n * (m + n);
  }

  /// W^T H W.
  static torch::Tensor taken_back(const torch::Tensor& h, const torch::Tensor& w) {
    const auto dtype = solve_dtype(2 * w.size(0), w.scalar_type());
    const torch::Tensor wide = w.to(dtype);
    return at::matmul(wide.t(), at::matmul(h.to(dtype), wide)).to(torch::kFloat32);
  }

  /// The layer's part of its group's outputs.
  torch::Tensor rows_of(const plan::Layer& layer, const torch::Tensor& outputs) const {
    if (layer.rows == outputs.size(1)) return outputs;
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
    double idle = 0;
    for (const auto& [group, sum] : inputs) {
      tensors.emplace_back(inputs_name(group), packed(sum / tokens));
      const bool expert = group.expert && group.kind == Group::kGateUp;
      if (expert && sum.trace().item<double>() == 0.0) ++idle;
    }
    tensors.emplace_back(kIdleExperts, at::full({}, idle, torch::kFloat64));
    for (const plan::Layer* layer : layers) {
      const Sums& sum = sums.at(layer->name);
      check_finite_moments(layer->name, inputs.at(layer->group()));
      check_finite_moments(layer->name, sum.gradient);
      const GradientMoments gradient{sum.gradient / tokens, pulled_back(*layer),
                                     sum.square / tokens / static_cast<double>(layer->rows)};
      tensors.emplace_back(layer->name + ".gradient", packed(gradient.moments));
      if (keeps_outputs(*layer)) {
        tensors.emplace_back(layer->name + ".outputs", packed(sum.outputs / tokens));
      }
      // Row sums of F times column sums over the sum of all.
      const double all = std::max(sum.rows.sum(torch::kFloat64).item<double>(), kLeastSum);
      save_diagonal(tensors, layer->name, sum.rows / tokens, sum.columns / all);
      const torch::Tensor squares =
          tn::until_it_converges(layer->name, "its spectrum", [&](bool wide) {
            const torch::Tensor& w = weights.at(layer->name);
            const NormPair pair =
                norm_pair(wide ? w.to(torch::kFloat64) : w, nullptr,
                          inputs.at(layer->group()) / tokens, gradient, options_.damping, 0.0);
            torch::Tensor found = weighted_squares(pair.a, pair.b);
            tn::check_converged(found);
            return found;
          });
      tensors.emplace_back(layer->name + ".squares", squares.cpu().contiguous());
      tensors.emplace_back(layer->name + ".mean_square",
                           at::full({}, gradient.mean_square, torch::kFloat64));
    }
    if (index == 0) {
      check_finite_moments(kEmbedding, embedding_.moments);
      save_rows(tensors, kEmbedding, embedding_, tokens);
    }
    if (index == blocks_ - 1) save_rows(tensors, kHead, head_, tokens);
    io::save_safetensors(block_file(index), tensors);
  }

  static void save_diagonal(std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                            const std::string& name, const torch::Tensor& rows,
                            const torch::Tensor& columns) {
    tensors.emplace_back(name + kRows, rows.unsqueeze(1).cpu().contiguous());
    tensors.emplace_back(name + kColumns, columns.unsqueeze(0).cpu().contiguous());
  }

  static void save_rows(std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                        const std::string& name, const VocabularySums& sums, double tokens) {
    tensors.emplace_back(name + kRows, (sums.rows / tokens).unsqueeze(1).cpu().contiguous());
    tensors.emplace_back(name + kMoments, packed(sums.moments / tokens));
  }

  static constexpr double kLeastSum = 1e-30;

  const io::Checkpoint& checkpoint_;
  const StreamedModel& model_;
  const std::vector<plan::Layer>& layers_;
  const torch::Tensor& windows_;  // int64 [windows, t]
  fs::path folder_;
  const StatisticsOptions& options_;
  const ProgressFn& progress_;
  int64_t blocks_;
  int64_t hidden_;
  ActivationSpace space_;
  SavedPosition forward_;   // that many residual streams and one are kept
  SavedPosition backward_;  // the gradient before that block is kept
  model::RopeTable rope_;
  VocabularySums embedding_, head_;
};

std::string fingerprint_of(const io::Checkpoint& checkpoint, const StreamedModel& model,
                           const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                           const StatisticsOptions& options) {
  package::Fingerprint hash;
  hash.add(kVersion)
      .add(package::fingerprint(checkpoint))
      .add(c10::toString(model.options().dtype));
  for (const plan::Layer& layer : layers) hash.add(layer.name);
  hash.add(fmt::format("{}x{}", windows.size(0), windows.size(1))).add(windows);
  hash.add(fmt::format("{} {} {}", options.batch, options.damping, options.seed));
  if (options.outputs) hash.add("outputs");
  return hash.hex();
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
  const bool first = options.workers.first();
  const std::string fingerprint = fingerprint_of(checkpoint, model, layers, windows, options);
  const StatisticsFolder held(folder, fingerprint, model.config().num_layers, first);
  TORCH_CHECK_VALUE(held.fits() || options.force, "[statistics] ", folder.string(),
                    " was made from another model, other layers, calibration text or options, or "
                    "by another version; expected the same again, or a new folder");
  options.workers.meet();  // before the first of them drops other work
  if (first) held.begin(windows.numel(), package::fingerprint(checkpoint));
  options.workers.meet();
  Collector(checkpoint, model, layers, windows, folder, options, progress).run();
  return {folder, fingerprint, model.config(), held.share()};
}

Statistics Statistics::open(const fs::path& folder, const io::Checkpoint& checkpoint) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  const auto found = StatisticsFolder::finished(folder, config.num_layers);
  TORCH_CHECK_VALUE(found.model == package::fingerprint(checkpoint),
                    "[statistics] expected those of ", checkpoint.path().string(), ", got ",
                    folder.string(), ", made from another model");
  return {folder, found.fingerprint, config, std::nullopt};
}

Statistics::Statistics(fs::path folder, std::string fingerprint, const model::ModelConfig& config,
                       std::optional<FileLock> lock)
    : folder_(std::move(folder)),
      fingerprint_(std::move(fingerprint)),
      blocks_(config.num_layers),
      embedding_(model::embedding_layer(config).name),
      tied_(model::has_tied_head(config)),
      lock_(std::move(lock)) {}

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

DiagonalFisher Statistics::diagonal(const plan::Layer& layer) const {
  if (layer.block < 0) return rows(layer).diagonal();
  const auto tensors = load(layer, layer.name + ".fisher_");
  return {tensors.at(layer.name + kRows), tensors.at(layer.name + kColumns)};
}

RowFisher Statistics::rows(const plan::Layer& layer) const {
  TORCH_CHECK_VALUE(layer.block < 0,
                    "[statistics] expected the embedding or the output layer, got ", layer.name);
  if (layer.name != embedding_) return load_rows(blocks_ - 1, kHead);
  const RowFisher read = load_rows(0, kEmbedding);
  if (!tied_) return read;
  const RowFisher head = load_rows(blocks_ - 1, kHead);
  return {at::cat({read.rows, head.rows}, 1), at::cat({read.moments, head.moments}, 0)};
}

int64_t Statistics::idle_experts() const {
  double sum = 0;
  for (int64_t block = 0; block < blocks_; ++block) {
    sum += load({.block = block}, kIdleExperts).begin()->second.item<double>();
  }
  return static_cast<int64_t>(sum);
}

RowFisher Statistics::load_rows(int64_t block, const std::string& name) const {
  const auto tensors = load({.name = name, .block = block}, name + ".fisher_");
  TORCH_CHECK_VALUE(tensors.contains(name + kMoments), "[statistics] ", folder_.string(),
                    " was made by another version; expected a new folder");
  return {tensors.at(name + kRows), unpacked(tensors.at(name + kMoments)).unsqueeze(0)};
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
