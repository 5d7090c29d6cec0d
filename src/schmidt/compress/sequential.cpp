#include "schmidt/compress/sequential.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/json.h"
#include "schmidt/io/tensor_spill.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;
using model::Group;

/// This worker's part of the calibration text at one place of a model, a tensor for each
/// batch.
using Batches = std::vector<torch::Tensor>;

/// The original model's text and the compressed one's.
struct Streams {
  Batches original, compressed;
};

class Run {
 public:
  Run(const io::Checkpoint& checkpoint, const calibrate::StreamedModel& model,
      const std::vector<plan::LayerPlan>& plan, const Calibration& calibration,
      const MethodOptions& options,
      const std::function<torch::ScalarType(const plan::Layer&)>& stored_dtype,
      const LayerStore& store, fs::path folder, const ProgressFn& progress)
      : checkpoint_(checkpoint),
        model_(model),
        plan_(plan),
        calibration_(calibration),
        options_(options),
        stored_dtype_(stored_dtype),
        store_(store),
        folder_(std::move(folder)),
        progress_(progress),
        rope_(model.rope(calibration.windows.size(1))),
        rows_(std::min(calibration.batch, calibration.windows.size(0))) {
    windows_ = calibration.windows.split(calibration.batch);
    for (size_t b = 0; b < windows_.size(); ++b) {
      if (calibration.workers.takes(static_cast<int64_t>(b))) own_.push_back(b);
    }
  }

  void run() {
    const at::NoGradGuard no_grad;
    int64_t last = -1;
    for (const plan::LayerPlan& p : plan_) {
      last = std::max(last, p.layer.block);
      if (store_.has(p.layer)) done_.insert(p.layer.name);
    }
    fs::create_directories(folder_);
    int64_t block = 0;
    if (fs::exists(state_file())) {
      block = io::read_json_object(state_file()).value("blocks", int64_t{0});
    }
    calibration_.workers.meet();  // all have seen the same state before anyone changes it
    Streams residual = block == 0 ? embedded() : read_streams(block);
    for (; block <= last; ++block) {
      process(block, residual);
      if (block < last) write_streams(block + 1, residual);
    }
  }

 private:
  fs::path state_file() const { return folder_ / "state.json"; }

  Streams embedded() const {
    Streams streams;
    std::vector<torch::Tensor> own;
    for (const size_t b : own_) own.push_back(windows_[b]);
    const torch::Tensor h = own.empty() ? torch::Tensor() : model_.embed(at::cat(own));
    int64_t row = 0;
    for (const torch::Tensor& windows : own) {
      // Sums go into a stream in place: each has its own memory.
      streams.original.push_back(h.narrow(0, row, windows.size(0)).clone());
      streams.compressed.push_back(streams.original.back().clone());
      row += windows.size(0);
    }
    return streams;
  }

  // Two files in turn, so that the last whole pair stays while the next is written.
  io::TensorSpill open(const char* which, int64_t block) const {
    return {folder_ / fmt::format("{}.{}", which, block % 2),
            static_cast<int64_t>(windows_.size()),
            {rows_, calibration_.windows.size(1), model_.config().hidden_size},
            calibration_.dtype};
  }

  void write_streams(int64_t block, const Streams& streams) const {
    for (const auto& [which, batches] :
         {std::pair{"original", &streams.original}, std::pair{"compressed", &streams.compressed}}) {
      io::TensorSpill spill = open(which, block);
      for (size_t i = 0; i < own_.size(); ++i) {
        spill.write(static_cast<int64_t>(own_[i]), padded((*batches)[i]));
      }
      spill.sync();
    }
    calibration_.workers.meet();
    if (calibration_.workers.first()) {
      write_file_atomically(state_file(), nlohmann::json{{"blocks", block}}.dump());
    }
    calibration_.workers.meet();
  }

  Streams read_streams(int64_t block) const {
    const auto read = [&](const char* which) {
      const io::TensorSpill spill = open(which, block);
      Batches all;
      for (const size_t b : own_) {
        all.push_back(spill.read(static_cast<int64_t>(b))
                          .narrow(0, 0, windows_[b].size(0))
                          .to(calibration_.device));
      }
      return all;
    };
    Batches original = read("original");
    return {std::move(original), read("compressed")};
  }

  torch::Tensor padded(const torch::Tensor& batch) const {
    if (batch.size(0) == rows_) return batch;
    std::vector<int64_t> shape = batch.sizes().vec();
    shape[0] = rows_ - batch.size(0);
    return at::cat({batch, at::zeros(shape, batch.options())});
  }

  void process(int64_t index, Streams& residual) {
    const model::Block original = model_.block(index);
    model::Block compressed = original;
    Streams x = residual;  // inputs of the group at work, [b, t, n]
    for (const Group group : model::kGroups) {
      const auto read = [&](Group reader, const Streams& source, size_t b) {
        x.original[b] = original.input_of(reader, source.original[b], rope_);
        x.compressed[b] = compressed.input_of(reader, source.compressed[b], rope_);
      };
      for (size_t b = 0; b < x.original.size() && group != Group::kDown; ++b) {
        read(group, model::reads_residual(group) ? residual : x, b);
      }
      if (const auto layers = planned(index, group); !layers.empty()) {
        factorize(layers, x);
        compressed.replace(group, stored_projection(index, group, layers));
      }
      for (size_t b = 0; b < x.original.size(); ++b) {
        x.original[b] = original.projection(group)->apply(x.original[b]);
        x.compressed[b] = compressed.projection(group)->apply(x.compressed[b]);
        // The widest of all waits as the half that the next group reads.
        if (group == Group::kGateUp) read(Group::kDown, x, b);
        if (!model::adds_to_residual(group)) continue;
        residual.original[b] += x.original[b];
        residual.compressed[b] += x.compressed[b];
      }
    }
  }

  std::vector<const plan::LayerPlan*> planned(int64_t block, Group group) const {
    std::vector<const plan::LayerPlan*> found;
    for (const plan::LayerPlan& p : plan_) {
      if (p.layer.block == block && p.layer.group() == group) found.push_back(&p);
    }
    return found;
  }

  void factorize(const std::vector<const plan::LayerPlan*>& layers, const Streams& x) {
    std::vector<const plan::LayerPlan*> open;
    for (const plan::LayerPlan* p : layers) {
      if (!done_.contains(p->layer.name)) open.push_back(p);
    }
    if (open.empty()) return;
    const LayerInputs inputs = moments(x, open.front()->layer.cols);
    for (size_t i = 0; i < open.size(); ++i) {
      const plan::LayerPlan& p = *open[i];
      if (progress_) {
        const auto at = static_cast<int64_t>(open[i] - plan_.data());
        progress_({"compress", p.layer.name, at, static_cast<int64_t>(plan_.size()), "layers"});
      }
      if (calibration_.workers.takes(static_cast<int64_t>(i))) factorize(p, inputs);
    }
    calibration_.workers.meet();
  }

  void factorize(const plan::LayerPlan& p, LayerInputs inputs) const {
    const Method& method = find_method(p.method);
    if (method.needs_gradient) {
      TORCH_CHECK_VALUE(calibration_.statistics != nullptr, "[compress] method ",
                        std::string(method.name), " expected gradient statistics, got none");
      inputs.gradient = calibration_.statistics->of(p.layer).gradient.to(calibration_.device);
    }
    const torch::Tensor weight =
        plan::load_weight(checkpoint_, p.layer).to(calibration_.device, torch::kFloat32);
    StoredFit fit = fit_and_pack(method, weight, p, inputs, options_, stored_dtype_(p.layer));
    fit.stored = with_bias(checkpoint_, p.layer, std::move(fit.stored));
    store_.save(p, fit);
  }

  /// Of n inputs.
  LayerInputs moments(const Streams& x, int64_t n) const {
    LayerInputs inputs;
    inputs.moments =
        at::zeros({n, n}, at::TensorOptions(torch::kFloat32).device(calibration_.device));
    inputs.cross = inputs.moments.clone();
    for (size_t b = 0; b < x.original.size(); ++b) {
      const torch::Tensor before = x.original[b].flatten(0, 1).to(torch::kFloat32);
      const torch::Tensor after = x.compressed[b].flatten(0, 1).to(torch::kFloat32);
      inputs.moments.addmm_(after.t(), after);
      inputs.cross.addmm_(before.t(), after);
    }
    const auto tokens = static_cast<double>(calibration_.windows.numel());
    inputs.moments = calibration_.workers.summed(inputs.moments) / tokens;
    inputs.cross = calibration_.workers.summed(inputs.cross) / tokens;
    return inputs;
  }

  /// The group as the new checkpoint will hold it.
  model::ProjectionPtr stored_projection(int64_t block, Group group,
                                         const std::vector<const plan::LayerPlan*>& layers) const {
    model::ModelConfig config = model_.config();
    std::map<std::string, torch::Tensor> tensors;
    std::set<std::string> replaced;
    for (const plan::LayerPlan* p : layers) {
      const model::StoredWeight stored = store_.load(p->layer);
      config.compressed_layers[p->layer.name] = stored.form;
      for (const model::NamedTensor& t : stored.tensors) tensors[t.name] = t.tensor;
      for (const std::string& member : p->layer.members) replaced.insert(member + ".weight");
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
  fs::path folder_;
  const ProgressFn& progress_;
  model::RopeTable rope_;
  std::vector<torch::Tensor> windows_;  // of each batch
  int64_t rows_;                        // windows of a whole batch
  std::vector<size_t> own_;             // batches of this worker
  std::set<std::string> done_;          // layers that an earlier run has finished
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
