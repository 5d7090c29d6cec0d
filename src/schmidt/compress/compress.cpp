#include "schmidt/compress/compress.h"

#include <map>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/format_error.h"
#include "schmidt/compress/fingerprint.h"
#include "schmidt/compress/model_card.h"
#include "schmidt/compress/remote_code.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::compress {
namespace {

namespace fs = std::filesystem;

// What a partial folder has to agree on before its layers are used again.
std::string work_fingerprint(const io::Checkpoint& checkpoint, const std::vector<LayerPlan>& plan,
                             const CompressOptions& options) {
  Fingerprint hash;
  hash.add(fingerprint(checkpoint)).add(fmt::format("{}", options.tolerance));
  hash.add(options.dtype ? c10::toString(*options.dtype) : "as read");
  for (const LayerPlan& p : plan) {
    hash.add(p.layer.name)
        .add(fmt::format("{}x{}@{}", fmt::join(p.shape.out_dims, ","),
                         fmt::join(p.shape.in_dims, ","), fmt::join(p.max_bonds, ",")));
  }
  return hash.hex();
}

// The finished layers of one run, a small safetensors file each.
class LayerStore {
 public:
  LayerStore(const AtomicFolder& folder, const std::string& work, bool force)
      : folder_(folder.path() / "layers") {
    const fs::path stamp = folder_ / work;  // an empty file named after the work
    if (fs::exists(folder_) && !fs::exists(stamp)) {
      TORCH_CHECK_VALUE(
          force, "[output] ", folder.path().string(),
          " holds unfinished work of another model or recipe; expected the same again "
          "(remove it, or --force drops it)");
      fs::remove_all(folder_);
    }
    std::error_code ec;
    fs::create_directories(folder_, ec);
    if (ec) throw SystemError("cannot make folder", folder_, ec.value());
    write_file_atomically(stamp, "");
  }

  bool has(const Layer& layer) const { return fs::exists(file(layer)); }

  void save(const Layer& layer, const tn::Factorization& f, torch::ScalarType dtype) const {
    std::vector<std::pair<std::string, torch::Tensor>> tensors;
    for (size_t k = 0; k < f.mpo.cores().size(); ++k) {
      tensors.emplace_back(core_name(layer, k), f.mpo.cores()[k].to(dtype).contiguous());
    }
    tensors.emplace_back(kError, torch::full({}, f.relative_error, torch::kFloat64));
    io::save_safetensors(file(layer), tensors);
  }

  std::map<std::string, torch::Tensor> load(const Layer& layer) const {
    return io::load_safetensors(file(layer));
  }

  LayerResult result(const LayerPlan& plan) const {
    const auto tensors = load(plan.layer);
    LayerResult result{plan, {}, tensors.at(kError).item<double>()};
    for (size_t cut = 0; cut < plan.max_bonds.size(); ++cut) {
      result.bonds.push_back(tensors.at(core_name(plan.layer, cut)).size(3));
    }
    return result;
  }

  void remove() const { fs::remove_all(folder_); }

  static std::string core_name(const Layer& layer, size_t site) {
    return fmt::format("{}.cores.{}", layer.name, site);
  }

 private:
  static constexpr const char* kError = "relative_error";

  fs::path file(const Layer& layer) const { return folder_ / (layer.name + ".safetensors"); }

  fs::path folder_;
};

torch::ScalarType stored_dtype(const io::TensorInfo& info, const CompressOptions& options) {
  return options.dtype && isFloatingType(info.dtype) ? *options.dtype : info.dtype;
}

void factorize_layers(const io::Checkpoint& checkpoint, const std::vector<LayerPlan>& plan,
                      const CompressOptions& options, const LayerStore& store,
                      CompressResult& result, const ProgressFn& progress) {
  const auto total = static_cast<int64_t>(plan.size());
  for (const LayerPlan& p : plan) {
    const auto done = static_cast<int64_t>(result.layers.size());
    if (progress) progress({"compress", p.layer.name, done, total, "layers"});
    if (store.has(p.layer)) {
      ++result.resumed;
      result.layers.push_back(store.result(p));
      continue;
    }
    const std::string name = p.layer.name + ".weight";
    const torch::Tensor weight = checkpoint.load(name);
    TORCH_CHECK_VALUE(torch::isfinite(weight).all().item<bool>(), "[compress] ", name,
                      " holds NaN or infinity; expected finite values");
    const tn::Factorization f = tn::factorize(weight, {p.shape, p.max_bonds, options.tolerance});
    store.save(p.layer, f, stored_dtype(checkpoint.tensors().at(name), options));
    result.layers.push_back({p, f.mpo.bonds(), f.relative_error});
  }
}

// Streams the new weights: the plan's cores in place of its weights, the rest as it was.
void write_weights(const io::Checkpoint& checkpoint, const CompressResult& result,
                   const CompressOptions& options, const LayerStore& store, const fs::path& folder,
                   const ProgressFn& progress) {
  std::map<std::string, const LayerResult*> replaced;
  for (const LayerResult& r : result.layers) replaced[r.plan.layer.name + ".weight"] = &r;

  std::vector<io::TensorSpec> specs;
  for (const auto& [name, info] : checkpoint.tensors()) {
    const auto found = replaced.find(name);
    if (found == replaced.end()) {
      specs.push_back({name, stored_dtype(info, options), info.shape});
      continue;
    }
    const LayerResult& r = *found->second;
    for (size_t k = 0; k < r.plan.shape.out_dims.size(); ++k) {
      const int64_t left = k == 0 ? 1 : r.bonds[k - 1];
      const int64_t right = k < r.bonds.size() ? r.bonds[k] : 1;
      specs.push_back({LayerStore::core_name(r.plan.layer, k),
                       stored_dtype(info, options),
                       {left, r.plan.shape.out_dims[k], r.plan.shape.in_dims[k], right}});
    }
  }

  io::SafetensorsWriter writer(folder, specs);
  int64_t written = 0;
  const auto write = [&](const std::string& name, const torch::Tensor& tensor) {
    if (progress) {
      progress({"write", name, written++, static_cast<int64_t>(specs.size()), "tensors"});
    }
    writer.write(name, tensor);
  };
  for (const auto& [name, info] : checkpoint.tensors()) {
    const auto found = replaced.find(name);
    if (found == replaced.end()) {
      write(name, checkpoint.load(name).to(stored_dtype(info, options)));
      continue;
    }
    const Layer& layer = found->second->plan.layer;
    const auto cores = store.load(layer);
    for (size_t k = 0; k < found->second->plan.shape.out_dims.size(); ++k) {
      const std::string core = LayerStore::core_name(layer, k);
      write(core, cores.at(core));
    }
  }
  writer.finish();
}

// The spelling of config.json.
const char* config_dtype(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat32:
      return "float32";
    case torch::kBFloat16:
      return "bfloat16";
    case torch::kFloat16:
      return "float16";
    default:
      TORCH_CHECK_VALUE(false, "[compress] expected float32, bfloat16 or float16 to write, got ",
                        dtype);
  }
}

nlohmann::json compressed_config(const io::Checkpoint& checkpoint, const CompressResult& result,
                                 const CompressOptions& options) {
  nlohmann::json config = checkpoint.config();
  nlohmann::json& object = config["compression_config"];
  object["version"] = 1;
  for (const LayerResult& r : result.layers) {
    object["layers"][r.plan.layer.name] = {{"kind", "mpo"},
                                           {"out_dims", r.plan.shape.out_dims},
                                           {"in_dims", r.plan.shape.in_dims},
                                           {"bonds", r.bonds},
                                           {"relative_error", r.relative_error}};
  }
  object["made_by"].push_back(options.made_by);
  if (options.dtype) {
    for (const char* key : {"dtype", "torch_dtype"}) {
      if (config.contains(key)) config[key] = config_dtype(*options.dtype);
    }
  }
  return config;
}

void copy_tokenizer(const io::Checkpoint& checkpoint, const fs::path& folder) {
  const fs::path& from = checkpoint.path();
  if (checkpoint.is_gguf() || fs::exists(from / "tokenizer.json") ||
      fs::exists(from / "tokenizer.model")) {
    text::Tokenizer::load(from).save(folder);
  }
}

}  // namespace

CompressResult compress(const io::Checkpoint& checkpoint, const std::vector<LayerPlan>& plan,
                        const fs::path& out, const CompressOptions& options,
                        const ProgressFn& progress) {
  AtomicFolder folder(out, options.force);
  const LayerStore store(folder, work_fingerprint(checkpoint, plan, options), options.force);

  CompressResult result;
  factorize_layers(checkpoint, plan, options, store, result, progress);
  write_weights(checkpoint, result, options, store, folder.path(), progress);
  nlohmann::json config = compressed_config(checkpoint, result, options);
  add_remote_code(folder.path(), config);
  write_file_atomically(folder.path() / "config.json", config.dump(2) + "\n");
  if (!checkpoint.generation_config().empty()) {
    write_file_atomically(folder.path() / "generation_config.json",
                          checkpoint.generation_config().dump(2) + "\n");
  }
  copy_tokenizer(checkpoint, folder.path());
  result.summary = summarize(io::Checkpoint::open(folder.path()));
  write_file_atomically(folder.path() / "README.md", model_card(checkpoint, result.summary));
  store.remove();
  folder.commit();
  return result;
}

}  // namespace schmidt::compress
