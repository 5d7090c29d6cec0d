#include "schmidt/compress/compress.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/compress/neurons.h"
#include "schmidt/compress/rounded_weight.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/package/model_card.h"
#include "schmidt/package/rewrite.h"
#include "schmidt/plan/compressed_layers.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

// What a partial folder has to agree on before its layers are used again.
std::string work_fingerprint(const io::Checkpoint& checkpoint,
                             const std::vector<plan::LayerPlan>& plan,
                             const CompressOptions& options) {
  package::Fingerprint hash;
  hash.add(package::fingerprint(checkpoint));
  hash.add(to_json(options.method).dump());
  hash.add(options.dtype ? c10::toString(*options.dtype) : "as read");
  for (const plan::LayerPlan& p : plan) {
    hash.add(p.layer.name)
        .add(fmt::format("{} {} {}x{}@{}", p.method, p.fixed_gauge,
                         fmt::join(p.shape.out_dims, ","), fmt::join(p.shape.in_dims, ","),
                         fmt::join(p.max_bonds, ",")));
    for (const auto& format : {p.integers, p.factor_integers}) {
      hash.add(format ? format->label() : "");
    }
    hash.add(p.nf4 ? "NF4" : "");
    if (p.neurons) hash.add(fmt::format("{} neurons", *p.neurons));
  }
  if (const auto& c = options.calibration) {
    hash.add(c->windows);
    hash.add(fmt::format("{} {} {}", c->batch, c10::toString(c->dtype),
                         c->statistics != nullptr ? c->statistics->fingerprint() : "none"));
  }
  return hash.hex();
}

torch::ScalarType stored_dtype(const io::TensorInfo& info, const CompressOptions& options) {
  return options.dtype && isFloatingType(info.dtype) ? *options.dtype : info.dtype;
}

torch::ScalarType layer_dtype(const io::Checkpoint& checkpoint, const plan::Layer& layer,
                              const CompressOptions& options) {
  return options.dtype.value_or(plan::weight_dtype(checkpoint, layer));
}

/// Whether a layer belongs to no block.
bool outside(const plan::LayerPlan& p) { return p.layer.block < 0; }

/// The layers whose inputs are not compressed with them: all, or those outside the blocks where
/// there is calibration text.
void factorize_layers(const io::Checkpoint& checkpoint, const std::vector<plan::LayerPlan>& plan,
                      const CompressOptions& options, const LayerStore& store,
                      const ProgressFn& progress) {
  std::vector<const plan::LayerPlan*> open;
  for (const plan::LayerPlan& p : plan) {
    if (!store.has(p.layer) && (!options.calibration || outside(p))) open.push_back(&p);
  }
  options.workers.meet();  // all have seen the same layers finished
  const auto finished = static_cast<int64_t>(
      std::ranges::count_if(plan, [&](const auto& p) { return store.has(p.layer); }));
  for (size_t i = 0; i < open.size(); ++i) {
    const plan::LayerPlan& p = *open[i];
    if (progress) {
      progress({"compress", p.layer.name, finished + static_cast<int64_t>(i),
                static_cast<int64_t>(plan.size()), "layers"});
    }
    if (!options.workers.takes(static_cast<int64_t>(i))) continue;
    const torch::Tensor weight = plan::load_weight(checkpoint, p.layer);
    LayerInputs inputs;
    if (options.calibration && options.calibration->statistics != nullptr) {
      if (find_method(p.method).feeds_back) {
        inputs = inputs_of_original(*options.calibration->statistics, p.layer, weight.device());
      } else {
        inputs.diagonal = options.calibration->statistics->diagonal(p.layer);
      }
    }
    StoredFit fit = fit_and_pack(find_method(p.method), weight, p, inputs, options.method,
                                 layer_dtype(checkpoint, p.layer, options));
    fit.stored = with_bias(checkpoint, p.layer, std::move(fit.stored));
    store.save(p, fit);
  }
  options.workers.meet();
}

/// Names of the tensors by which codes are scaled, in layers that are stored as such already.
std::set<std::string> scales_of_codes(const io::Checkpoint& checkpoint) {
  std::set<std::string> names;
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  for (const auto& [layer, form] : config.compressed_layers.items()) {
    const auto description =
        model::describe_weight(layer, form, checkpoint.tensors(), checkpoint.path());
    if (!description.parameters) continue;
    for (auto at = checkpoint.tensors().lower_bound(layer + ".");
         at != checkpoint.tensors().end() && at->first.starts_with(layer + "."); ++at) {
      if (at->first != layer + ".bias") names.insert(at->first);
    }
  }
  return names;
}

/// The gate and up projections of the MLP of that down projection.
std::vector<model::LayerSpec> beside_down(const io::Checkpoint& checkpoint,
                                          const plan::Layer& down) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  return model::group_layers(config, down.block, model::Group::kGateUp);
}

/// The MLP of that down projection with the neurons that are kept.
void replace_pruned(package::Rewrite& rewrite, const io::Checkpoint& checkpoint,
                    const plan::Layer& down, const LayerStore& store) {
  const auto kept = [&store, down] {
    return torch::tensor(kept_neurons(store.form(down)), torch::kInt64);
  };
  const int64_t count = kept().numel();
  const auto replace = [&](const std::string& name, int64_t dim,
                           const std::function<torch::Tensor()>& load, torch::ScalarType dtype) {
    std::vector<int64_t> shape = checkpoint.tensors().at(name).shape;
    shape[static_cast<size_t>(dim)] = count;
    rewrite.replace({name}, {{name, dtype, shape}}, [name, dim, load, kept, dtype] {
      return std::vector<model::NamedTensor>{
          {name, load().index_select(dim, kept()).to(dtype).contiguous()}};
    });
  };
  const std::string weight = down.name + ".weight";
  const auto fitted = [&store, down] { return store.load(down).tensors.front().tensor; };
  replace(weight, 1, fitted, fitted().scalar_type());
  for (const model::LayerSpec& layer : beside_down(checkpoint, down)) {
    for (const char* part : {".weight", ".bias"}) {
      const std::string name = layer.name + part;
      if (!checkpoint.tensors().contains(name)) continue;
      const auto load = [checkpoint, name] { return checkpoint.load(name); };
      replace(name, 0, load, rewrite.dtype_of(name));
    }
  }
}

/// The plan's layers in place of their weights, the rest as it was. Scales stay in the types for
/// which their codes were found.
package::Rewrite rewrite_of(const io::Checkpoint& checkpoint,
                            const std::vector<plan::LayerPlan>& plan,
                            const CompressOptions& options, const LayerStore& store) {
  package::Rewrite rewrite(checkpoint, [&options, scales = scales_of_codes(checkpoint)](
                                           const std::string& name, const io::TensorInfo& info) {
    return scales.contains(name) ? info.dtype : stored_dtype(info, options);
  });
  for (const plan::LayerPlan& p : plan) {
    if (p.neurons) {
      replace_pruned(rewrite, checkpoint, p.layer, store);
      continue;
    }
    std::vector<std::string> names = plan::weight_tensors(checkpoint, p.layer);
    for (const std::string& member : p.layer.members) {
      if (p.layer.members.size() > 1) names.push_back(member + ".bias");
    }
    const auto load = [&] { return store.load(p.layer).tensors; };
    rewrite.replace(names, package::specs_of(load()), load);
  }
  return rewrite;
}

nlohmann::json compressed_config(const io::Checkpoint& checkpoint,
                                 const std::vector<plan::LayerPlan>& plan, const LayerStore& store,
                                 const CompressOptions& options) {
  nlohmann::json config = checkpoint.config();
  nlohmann::json& object = config["compression_config"];
  object["version"] = 1;
  if (!object.contains("layers")) object["layers"] = nlohmann::json::object();
  std::vector<int64_t> mlp_sizes =
      model::parse_config(checkpoint.config(), checkpoint.path()).mlp_sizes;
  bool prunes = false;
  for (const plan::LayerPlan& p : plan) {
    if (!p.neurons) {
      object["layers"][p.layer.name] = store.form(p.layer);
      continue;
    }
    prunes = true;
    mlp_sizes[static_cast<size_t>(p.layer.block)] = *p.neurons;
  }
  if (prunes) {
    object["mlp_sizes"] = mlp_sizes;
    // What is made of the pruned model goes by the original's name too.
    if (!config.contains("_name_or_path"))
      config["_name_or_path"] = package::model_name(checkpoint);
  }
  object["made_by"].push_back(options.made_by);
  if (options.dtype) io::name_dtype(config, *options.dtype);
  return config;
}

void check_format(const quant::IntegerFormat& format, const plan::Layer& layer) {
  TORCH_CHECK_VALUE(quant::is_integer_width(format.bits), "[compress] expected ",
                    quant::kIntegerWidthsText, " bits, got ", format.bits, " for ", layer.name);
  TORCH_CHECK_VALUE(format.group > 0 && layer.cols % format.group == 0,
                    "[compress] expected groups that divide the ", layer.cols, " columns of ",
                    layer.name, ", got groups of ", format.group);
}

void check_integers(const plan::LayerPlan& p) {
  for (const auto& format : {p.integers, p.factor_integers}) {
    if (format) check_format(*format, p.layer);
  }
  TORCH_CHECK_VALUE(p.layer.members.size() == 1, "[compress] expected integers of single layers, ",
                    "got ", p.layer.name);
}

/// Of an MLP that is pruned nothing else is planned.
void check_pruned_blocks(const std::vector<plan::LayerPlan>& plan) {
  std::set<int64_t> pruned;
  for (const plan::LayerPlan& p : plan) {
    if (p.neurons) pruned.insert(p.layer.block);
  }
  for (const plan::LayerPlan& p : plan) {
    TORCH_CHECK_VALUE(
        p.neurons || !pruned.contains(p.layer.block) || p.layer.group() == model::Group::kQkv ||
            p.layer.group() == model::Group::kOut,
        "[compress] expected nothing else of an MLP that is pruned, got ", p.layer.name);
  }
}

/// What is learned from a block's output are all of its layers that are rounded.
void check_learned_blocks(const std::vector<plan::LayerPlan>& plan) {
  std::map<int64_t, bool> learned;
  for (const plan::LayerPlan& p : plan) {
    if (p.layer.block < 0 || !p.is_rounded()) continue;
    const bool learns = find_method(p.method).learns_block;
    const auto [known, first] = learned.emplace(p.layer.block, learns);
    TORCH_CHECK_VALUE(first || known->second == learns, "[compress] expected method ", p.method,
                      " for all layers of a block that are rounded or for none, got others beside "
                      "it for ",
                      p.layer.name);
  }
}

}  // namespace

void check_method(const Method& method, int64_t processes) {
  TORCH_CHECK_VALUE(!method.learns_block || processes == 1, "[compress] method ",
                    std::string(method.name), " expected one process, got ", processes);
}

void check_plan(const std::vector<plan::LayerPlan>& plan, const MethodOptions& options,
                int64_t processes) {
  check_learned_blocks(plan);
  check_pruned_blocks(plan);
  for (const plan::LayerPlan& p : plan) {
    const Method& method = find_method(p.method);
    TORCH_CHECK_VALUE(method.any_shape || p.shape == tn::low_rank_shape(p.layer.rows, p.layer.cols),
                      "[compress] method ", p.method, " expected the shape (m, 1) x (1, n) for ",
                      p.layer.name);
    TORCH_CHECK_VALUE(p.is_rounded() == method.integers, "[compress] method ", p.method,
                      " expected ", method.integers ? "" : "no ", "integers of few bits for ",
                      p.layer.name);
    if (p.is_rounded()) check_integers(p);
    TORCH_CHECK_VALUE(p.neurons.has_value() == method.prunes, "[compress] method ", p.method,
                      " expected ", method.prunes ? "a" : "no", " number of neurons for ",
                      p.layer.name);
    TORCH_CHECK_VALUE(!p.nf4 || method.nf4, "[compress] method ", p.method,
                      " rounds to integers alone, got NF4 for ", p.layer.name);
    check_method(method, processes);
    if (method.check != nullptr) method.check(p, options);
  }
}

void check_pruned_mlps(const io::Checkpoint& checkpoint, const std::vector<plan::LayerPlan>& plan) {
  const auto config = model::parse_config(checkpoint.config(), checkpoint.path());
  for (const plan::LayerPlan& p : plan) {
    if (!p.neurons) continue;
    TORCH_CHECK_VALUE(!config.experts,
                      "[compress] expected no mixture of experts, whose neurons are not pruned");
    for (const model::LayerSpec& layer : beside_down(checkpoint, p.layer)) {
      TORCH_CHECK_VALUE(checkpoint.tensors().contains(layer.name + ".weight"),
                        "[compress] expected dense layers of an MLP that is pruned, got ",
                        layer.name, " in another form");
    }
  }
}

CompressResult compress(const io::Checkpoint& checkpoint, const std::vector<plan::LayerPlan>& plan,
                        const fs::path& out, const CompressOptions& options,
                        const ProgressFn& progress) {
  check_plan(plan, options.method, options.workers.size);
  check_pruned_mlps(checkpoint, plan);
  for (const plan::LayerPlan& p : plan) {
    TORCH_CHECK_VALUE(!find_method(p.method).needs_inputs || options.calibration || outside(p),
                      "[compress] method ", p.method, " expected calibration text, got none");
  }
  const calibrate::Workers& workers = options.workers;
  if (!workers.first()) workers.meet();  // the first makes the folders, or empties them
  std::optional<AtomicFolder> folder;    // held by the first for all
  if (workers.first()) folder.emplace(out, options.force, package::checkpoint_folder());
  const fs::path partial = partial_folder(out);
  const LayerStore store(partial / "layers", work_fingerprint(checkpoint, plan, options),
                         options.force);
  if (workers.first()) workers.meet();

  CompressResult result;
  for (const plan::LayerPlan& p : plan) result.resumed += store.has(p.layer) ? 1 : 0;
  workers.meet();
  factorize_layers(checkpoint, plan, options, store, progress);
  const fs::path streams = store.folder() / "streams";
  if (const auto& calibration = options.calibration) {
    const calibrate::StreamedModel model(checkpoint, {calibration->dtype, calibration->device});
    compress_in_order(
        checkpoint, model, plan, *calibration, options.method,
        [&](const plan::Layer& layer) { return layer_dtype(checkpoint, layer, options); }, store,
        streams, progress);
  }
  if (!workers.first()) {
    workers.meet();
    return {};
  }
  remove_all_but(partial, store.folder());  // what a killed run had begun to write
  for (const plan::LayerPlan& p : plan) result.layers.push_back(store.result(p));
  result.summary = package::write_checkpoint(
      checkpoint, rewrite_of(checkpoint, plan, options, store),
      compressed_config(checkpoint, plan, store, options), partial, progress);
  // What a run goes on from leaves last: a kill in between finds it, or OUT.
  folder->commit();
  remove_tree(out / store.folder().filename());
  workers.meet();
  return result;
}

}  // namespace schmidt::compress
