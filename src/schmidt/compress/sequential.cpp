#include "schmidt/compress/sequential.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include "schmidt/calibrate/embedded_text.h"
#include "schmidt/calibrate/saved_position.h"
#include "schmidt/calibrate/symmetric.h"
#include "schmidt/compress/learned_rounding.h"
#include "schmidt/compress/weighted_target.h"
#include "schmidt/kernels/moments.h"
#include "schmidt/kernels/processor.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/vocabulary_scale.h"
#include "schmidt/plan/compressed_layers.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;
using calibrate::ActivationStream;
using calibrate::SavedPosition;
using calibrate::TextBatches;
using model::Group;

/// The text before a group of layers: their BlockState.
struct Halted {
  ActivationStream residual, input;
  std::optional<ActivationStream> mixed, sum;
};

/// The text in the original model and in the compressed one.
struct Texts {
  Halted original, compressed;
};

class Run {
 public:
  Run(const io::Checkpoint& checkpoint, const calibrate::StreamedModel& model,
      const std::vector<plan::LayerPlan>& plan, const Calibration& calibration,
      const MethodOptions& options,
      const std::function<torch::ScalarType(const plan::Layer&)>& stored_dtype,
      const LayerStore& store, const fs::path& folder, const ProgressFn& progress)
      : checkpoint_(checkpoint),
        model_(model),
        plan_(plan),
        calibration_(calibration),
        options_(options),
        stored_dtype_(stored_dtype),
        store_(store),
        progress_(progress),
        rope_(model.rope(calibration.windows.size(1))),
        space_(TextBatches::of(calibration.windows, calibration.batch, calibration.workers), folder,
               calibration.dtype, calibration.device, calibration.activations.memory),
        position_(folder, "position", calibration.workers, calibration.activations.save_after) {}

  void run() {
    const at::NoGradGuard no_grad;
    int64_t last = -1;
    for (const plan::LayerPlan& p : plan_) {
      last = std::max(last, p.layer.block);
      if (store_.has(p.layer)) done_.insert(p.layer.name);
    }
    if (last < 0) return;
    int64_t block = position_.place().value_or(0);
    Texts texts = block == 0 ? embedded() : kept(block);
    for (; block <= last; ++block) {
      process(block, texts);
      if (block < last && position_.due()) {
        position_.save(block + 1, {&texts.original.residual, &texts.compressed.residual});
      }
    }
  }

 private:
  static constexpr const char* kOriginal = "original";
  static constexpr const char* kCompressed = "compressed";

  /// Of the residual stream before a block.
  static std::string name(const char* which, int64_t block) {
    return fmt::format("{}.{}", which, block);
  }

  Texts embedded() const {
    Texts texts;
    const auto stream = [&](const char* which, const calibrate::Embed& embed) {
      return calibrate::embedded_text(embed, calibration_.windows, space_, name(which, 0),
                                      hidden());
    };
    texts.original.residual =
        stream(kOriginal, [&](const torch::Tensor& ids) { return model_.embed(ids); });
    const model::LayerSpec embedding = model::embedding_layer(model_.config());
    const auto planned = std::ranges::find(plan_, embedding.name,
                                           [](const plan::LayerPlan& p) { return p.layer.name; });
    if (planned != plan_.end()) {
      const model::ProjectionPtr rounded = stored_projection({&embedding, 1}, planned->layer);
      texts.compressed.residual = stream(kCompressed, [&](const torch::Tensor& ids) {
        return model::embedded(model_.config(), rounded->rows(ids.to(calibration_.device)));
      });
      return texts;
    }
    texts.compressed.residual = space_.make(name(kCompressed, 0), hidden());
    for (const int64_t b : own()) {
      texts.compressed.residual.write(b, texts.original.residual.read(b));
    }
    return texts;
  }

  /// A finished layer's form and tensors in place of what the checkpoint has.
  void add_stored(const plan::Layer& layer, model::ModelConfig& config,
                  std::map<std::string, torch::Tensor>& tensors) const {
    const model::StoredWeight stored = store_.load(layer);
    config.compressed_layers[layer.name] = stored.form;
    for (const model::NamedTensor& t : stored.tensors) tensors[t.name] = t.tensor;
  }

  /// The embedding, or a layer by itself, as the new checkpoint will hold it.
  model::ProjectionPtr stored_projection(std::span<const model::LayerSpec> spec,
                                         const plan::Layer& layer) const {
    model::ModelConfig config = model_.config();
    std::map<std::string, torch::Tensor> tensors;
    const std::string bias = layer.name + ".bias";
    if (checkpoint_.tensors().contains(bias)) tensors[bias] = checkpoint_.load(bias);
    add_stored(layer, config, tensors);
    return model::load_group(spec, config,
                             model::Weights(std::move(tensors), checkpoint_.path(),
                                            {calibration_.dtype, calibration_.device}));
  }

  Texts kept(int64_t block) const {
    Texts texts;
    texts.original.residual = space_.kept(name(kOriginal, block), hidden());
    texts.compressed.residual = space_.kept(name(kCompressed, block), hidden());
    return texts;
  }

  int64_t hidden() const { return model_.config().hidden_size; }
  const std::vector<int64_t>& own() const { return space_.batches().own; }

  /// Compresses a block, with the texts before it; they go on to the next.
  void process(int64_t index, Texts& texts) {
    if (learns(index)) return learn(index, texts);
    const model::Block block = model_.block(index);
    begin(index, block, kOriginal, texts.original);
    begin(index, block, kCompressed, texts.compressed);
    for (const Group group : block.groups()) {
      model::ProjectionPtr compressed = block.projection(group);
      if (const auto layers = planned(index, group); !layers.empty()) {
        factorize(layers, texts);
        compressed = stored_projection(index, group, layers);
      }
      advance(index, block, group, *block.projection(group), kOriginal, texts.original);
      advance(index, block, group, *compressed, kCompressed, texts.compressed);
    }
  }

  bool learns(int64_t block) const {
    return std::ranges::any_of(plan_, [&](const plan::LayerPlan& p) {
      return p.layer.block == block && find_method(p.method).learns_block;
    });
  }

  /// The same for a block whose layers are learned from its output.
  void learn(int64_t index, Texts& texts) {
    const model::Block block = model_.block(index);
    factorize_for_learning(index);
    texts.original.residual =
        passed_through(block, index, kOriginal, std::move(texts.original.residual));
    if (std::ranges::any_of(plan_, [&](const plan::LayerPlan& p) {
          return p.layer.block == index && p.is_rounded() && !done_.contains(p.layer.name);
        })) {
      learn(block, index, texts);
    }
    model::Block rounded = block;
    for (const Group group : block.groups()) {
      if (const auto layers = planned(index, group); !layers.empty()) {
        rounded.replace(group, stored_projection(index, group, layers));
      }
    }
    texts.compressed.residual =
        passed_through(rounded, index, kCompressed, std::move(texts.compressed.residual));
  }

  /// Those of the block's layers that no integers are learned for, before the others are learned
  /// beside them. As of to_round, nothing is known of inputs but the original's.
  void factorize_for_learning(int64_t index) const {
    for (const plan::LayerPlan& p : plan_) {
      if (p.layer.block != index || p.is_rounded() || done_.contains(p.layer.name)) continue;
      if (calibration_.workers.takes(&p - plan_.data())) {
        factorize(p, inputs_of_original(*calibration_.statistics, p.layer, calibration_.device));
      }
    }
    calibration_.workers.meet();
  }

  ActivationStream passed_through(const model::Block& block, int64_t index, const char* which,
                                  ActivationStream states) {
    const SavedPosition::Work work(position_);
    ActivationStream next = space_.make(name(which, index + 1), hidden());
    for (const int64_t b : own()) next.write(b, block.forward(states.take(b), rope_));
    return next;
  }

  /// The layers of a group, one where they are stored as one.
  std::vector<model::LayerSpec> stored_layers(int64_t block, Group group) const {
    std::vector<model::LayerSpec> specs = model::group_layers(model_.config(), block, group);
    const auto fused = model::fused_layer(specs);
    if (!fused || !model_.config().compressed_layers.contains(fused->name)) return specs;
    return {*fused};
  }

  model::ProjectionPtr loaded(const model::LayerSpec& spec) const {
    return model::load_group({&spec, 1}, model_.config(), model_.weights());
  }

  /// All layers of a block, and the plans of those that are rounded.
  struct ToLearn {
    std::vector<BlockLayer> layers;
    std::vector<const plan::LayerPlan*> plans;
    std::vector<torch::Tensor> weights;  // theirs, float32
  };

  ToLearn to_learn(int64_t block) const {
    ToLearn result;
    for (const Group group : model::block_groups(model_.config(), block)) {
      const auto plans = planned(block, group);
      for (const model::LayerSpec& spec : stored_layers(block, group)) {
        const auto plan =
            std::ranges::find_if(plans, [&](const auto* p) { return p->layer.name == spec.name; });
        if (plan == plans.end()) {
          result.layers.push_back({group, loaded(spec), {}});
          continue;
        }
        if (!(*plan)->is_rounded()) {
          result.layers.push_back({group, stored_projection({&spec, 1}, (*plan)->layer), {}});
          continue;
        }
        result.weights.push_back(plan::load_weight(checkpoint_, (*plan)->layer)
                                     .to(calibration_.device, torch::kFloat32));
        RoundedLayer rounded = to_round(**plan, result.weights.back());
        rounded.bias = model::load_bias(spec, model_.weights());
        result.layers.push_back({group, nullptr, std::move(rounded)});
        result.plans.push_back(*plan);
      }
    }
    return result;
  }

  /// A layer's parts as their rounding begins. Nothing is known of its inputs but what the
  /// original's statistics say: those that it will see are being learned.
  RoundedLayer to_round(const plan::LayerPlan& p, const torch::Tensor& w) const {
    LayerInputs inputs;
    if (calibration_.statistics != nullptr) {
      if (p.factor_integers) {
        inputs = inputs_of_original(*calibration_.statistics, p.layer, calibration_.device);
      } else {
        inputs.diagonal = calibration_.statistics->diagonal(p.layer);
      }
    }
    if (p.layer.expert) inputs = without_zero_norms(w, std::move(inputs));
    const WeightParts parts = parts_of(w, p, inputs, options_);
    RoundedLayer rounded{.out_features = p.layer.rows};
    const auto matrix = [](const torch::Tensor& part, const quant::IntegerFormat& format,
                           const torch::Tensor& column_weights) {
      return RoundedMatrix{format, part, scale_type(part, format), column_weights};
    };
    const torch::Tensor weights = column_weights(inputs, w.device());
    if (parts.whole.defined()) rounded.whole = matrix(parts.whole, *p.integers, weights);
    if (parts.left.defined()) {
      rounded.left =
          matrix(parts.left, p.left_integers(), left_column_weights(parts.right, weights));
      rounded.right = matrix(parts.right, *p.factor_integers, weights);
    }
    return rounded;
  }

  void learn(const model::Block& block, int64_t index, const Texts& texts) {
    const SavedPosition::Work work(position_);
    const auto [layers, plans, weights] = to_learn(index);
    if (progress_) {
      progress_({"compress", plans.front()->layer.name, plans.front() - plan_.data(),
                 static_cast<int64_t>(plan_.size()), "layers"});
    }
    const auto products =
        kernels::multiplies_bfloat16(calibration_.device) ? torch::kBFloat16 : calibration_.dtype;
    const LearnedBlock found = learn_rounding(
        block, layers,
        {texts.compressed.residual, texts.original.residual, own(), rope_, output_weight(index)},
        {.steps = options_.steps, .products = products});
    for (size_t i = 0; i < plans.size(); ++i) {
      const plan::LayerPlan& p = *plans[i];
      StoredFit fit =
          pack_fit(p, rounded_weight(weights[i], p, found.layers[i], {}), stored_dtype_(p.layer));
      fit.stored.form["block_error"] = found.error_after;
      fit.stored.form["block_error_before"] = found.error_before;
      store_.save(p, fit);
    }
  }

  /// How much the model's distribution moves with the block's outputs, its mean eigenvalue 1;
  /// undefined where no statistics say so.
  torch::Tensor output_weight(int64_t index) const {
    if (calibration_.statistics == nullptr) return {};
    for (const plan::LayerPlan& p : plan_) {
      // Experts' outputs are only a share of the block's.
      if (p.layer.block != index || p.layer.group() != Group::kDown) continue;
      const calibrate::GradientMoments gradient = calibration_.statistics->of(p.layer).gradient;
      torch::Tensor h = calibrate::output_moments(gradient, options_.damping);
      if (!h.defined()) return {};
      h = h.to(calibration_.device, torch::kFloat32);
      return h / h.diagonal().mean();
    }
    return {};
  }

  /// What the block's group of that number reads.
  ActivationStream input(const char* which, int64_t block, const std::vector<Group>& groups,
                         size_t number) const {
    const auto layers = model::group_layers(model_.config(), block, groups[number]);
    return space_.make(fmt::format("{}.{}.input.{}", which, block, number),
                       layers.front().in_features);
  }

  void begin(int64_t index, const model::Block& block, const char* which, Halted& at) {
    const SavedPosition::Work work(position_);
    at.input = input(which, index, block.groups(), 0);
    for (const int64_t b : own()) {
      at.input.write(b, block.begin(at.residual.read(b), rope_).input());
    }
  }

  void advance(int64_t index, const model::Block& block, Group group,
               const model::Projection& projection, const char* which, Halted& at) {
    const SavedPosition::Work work(position_);
    const std::vector<Group>& groups = block.groups();
    const auto number = static_cast<size_t>(std::ranges::find(groups, group) - groups.begin());
    const bool last = number + 1 == groups.size();
    const auto made = [&](const char* what) {
      return space_.make(fmt::format("{}.{}.{}", name(which, index), what, number), hidden());
    };
    ActivationStream next_input, next_residual;
    if (!last) next_input = input(which, index, groups, number + 1);
    const bool grows = model::adds_to_residual(group) && (!group.expert || last);
    if (grows) next_residual = last ? space_.make(name(which, index + 1), hidden()) : made("grown");
    const bool mixes = group == Group::kOut && block.mixes_experts();
    if (mixes) at.mixed = made("mixed");
    const bool sums = group.kind == Group::kDown && group.expert && !last;
    std::optional<ActivationStream> next_sum;
    if (sums) next_sum = made("sum");
    for (const int64_t b : own()) {
      model::BlockState state{group, {}, at.input.take(b)};
      if (grows) {
        state.residual = at.residual.take(b);
      } else if (!group.expert) {
        state.residual = at.residual.read(b);
      }
      if (group.expert) state.mixed = last ? at.mixed->take(b) : at.mixed->read(b);
      if (group.kind == Group::kDown && at.sum) state.sum = at.sum->take(b);
      model::BlockPass pass = block.resume(std::move(state), rope_);
      pass.apply(projection);
      if (!last) next_input.write(b, pass.input());
      if (grows) next_residual.write(b, pass.residual());
      if (mixes) at.mixed->write(b, pass.state().mixed);
      if (sums) next_sum->write(b, pass.state().sum);
    }
    at.input = std::move(next_input);
    if (grows) at.residual = std::move(next_residual);
    if (sums) at.sum = std::move(next_sum);
    if (last) {
      at.mixed.reset();
      at.sum.reset();
    }
  }

  std::vector<const plan::LayerPlan*> planned(int64_t block, Group group) const {
    std::vector<const plan::LayerPlan*> found;
    for (const plan::LayerPlan& p : plan_) {
      if (p.layer.block == block && p.layer.group() == group) found.push_back(&p);
    }
    return found;
  }

  void factorize(const std::vector<const plan::LayerPlan*>& layers, const Texts& texts) {
    std::vector<const plan::LayerPlan*> open;
    for (const plan::LayerPlan* p : layers) {
      if (!done_.contains(p->layer.name)) open.push_back(p);
    }
    if (open.empty()) return;
    LayerInputs inputs = moments(texts, open.front()->layer);
    if (open.size() > 1) inputs.drift = drift_map(inputs, options_);
    for (size_t i = 0; i < open.size(); ++i) {
      const plan::LayerPlan& p = *open[i];
      if (progress_) {
        const auto number = static_cast<int64_t>(open[i] - plan_.data());
        progress_({"compress", p.layer.name, number, static_cast<int64_t>(plan_.size()), "layers"});
      }
      if (calibration_.workers.takes(static_cast<int64_t>(i))) factorize(p, inputs);
    }
    calibration_.workers.meet();
  }

  void factorize(const plan::LayerPlan& p, LayerInputs inputs) const {
    const Method& method = find_method(p.method);
    if (calibration_.statistics != nullptr) {
      inputs.diagonal = calibration_.statistics->diagonal(p.layer);
    }
    if (method.needs_gradient) {
      TORCH_CHECK_VALUE(calibration_.statistics != nullptr, "[compress] method ",
                        std::string(method.name), " expected gradient statistics, got none");
      inputs.gradient = calibration_.statistics->of(p.layer).gradient.to(calibration_.device);
    }
    const torch::Tensor weight =
        plan::load_weight(checkpoint_, p.layer).to(calibration_.device, torch::kFloat32);
    if (p.layer.expert) inputs = without_zero_norms(weight, std::move(inputs));
    StoredFit fit = fit_and_pack(method, weight, p, inputs, options_, stored_dtype_(p.layer));
    fit.stored = with_bias(checkpoint_, p.layer, std::move(fit.stored));
    store_.save(p, fit);
  }

  /// Of a layer's inputs, and of the others of its group.
  LayerInputs moments(const Texts& texts, const plan::Layer& layer) const {
    LayerInputs inputs;
    inputs.moments = at::zeros({layer.cols, layer.cols},
                               at::TensorOptions(torch::kFloat32).device(calibration_.device));
    inputs.cross = inputs.moments.clone();
    for (const int64_t b : own()) {
      torch::Tensor before = texts.original.input.read(b).flatten(0, 1);  // [tokens, n]
      torch::Tensor after = texts.compressed.input.read(b).flatten(0, 1);
      if (layer.expert) {  // the tokens that take it: the others' inputs are zeros
        const torch::Tensor rows = after.ne(0).any(-1).nonzero().flatten();
        before = before.index_select(0, rows);
        after = after.index_select(0, rows);
      }
      kernels::add_moments(inputs.moments, after);
      // A token that takes the expert in the compressed model alone has no input to drift from.
      if (layer.expert) before = at::where(before.ne(0).any(-1, true), before, after);
      kernels::add_cross_moments(inputs.cross, before, after);
    }
    const auto tokens = static_cast<double>(calibration_.windows.numel());
    inputs.moments = calibrate::completed(calibration_.workers.summed(inputs.moments)).div_(tokens);
    inputs.cross = calibration_.workers.summed(inputs.cross) / tokens;
    calibrate::check_finite_moments(layer.name, inputs.moments);
    calibrate::check_finite_moments(layer.name, inputs.cross);
    return inputs;
  }

  /// The group as the new checkpoint will hold it.
  model::ProjectionPtr stored_projection(int64_t block, Group group,
                                         const std::vector<const plan::LayerPlan*>& layers) const {
    model::ModelConfig config = model_.config();
    std::map<std::string, torch::Tensor> tensors;
    std::set<std::string> replaced;
    for (const plan::LayerPlan* p : layers) {
      add_stored(p->layer, config, tensors);
      for (const std::string& name : plan::weight_tensors(checkpoint_, p->layer)) {
        replaced.insert(name);
      }
    }
    return calibrate::load_changed_group(checkpoint_, config, block, group, std::move(tensors),
                                         replaced, {calibration_.dtype, calibration_.device});
  }

  const io::Checkpoint& checkpoint_;
  const calibrate::StreamedModel& model_;
  const std::vector<plan::LayerPlan>& plan_;
  const Calibration& calibration_;
  const MethodOptions& options_;
  const std::function<torch::ScalarType(const plan::Layer&)>& stored_dtype_;
  const LayerStore& store_;
  const ProgressFn& progress_;
  model::RopeTable rope_;
  calibrate::ActivationSpace space_;
  SavedPosition position_;      // the block before which both texts are kept
  std::set<std::string> done_;  // layers that an earlier run has finished
};

}  // namespace

model::StoredWeight with_bias(const io::Checkpoint& checkpoint, const plan::Layer& layer,
                              model::StoredWeight weight) {
  std::vector<torch::Tensor> biases;
  for (const std::string& member : layer.members) {
    if (checkpoint.tensors().contains(member + ".bias")) {
      biases.push_back(checkpoint.load(member + ".bias"));
    }
  }
  if (biases.size() > 1) weight.tensors.push_back({layer.name + ".bias", at::cat(biases)});
  return weight;
}

void compress_in_order(const io::Checkpoint& checkpoint, const calibrate::StreamedModel& model,
                       const std::vector<plan::LayerPlan>& plan, const Calibration& calibration,
                       const MethodOptions& options,
                       const std::function<torch::ScalarType(const plan::Layer&)>& stored_dtype,
                       const LayerStore& store, const fs::path& folder,
                       const ProgressFn& progress) {
  Run(checkpoint, model, plan, calibration, options, stored_dtype, store, folder, progress).run();
}

}  // namespace schmidt::compress
