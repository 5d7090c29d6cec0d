#include "schmidt/io/hf_folder.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <set>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/fused_rows.h"
#include "schmidt/io/json.h"
#include "schmidt/io/nf4_state.h"
#include "schmidt/io/packed_integers.h"
#include "schmidt/io/quantization_config.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/tied_head.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

// Both canonical.
bool lies_in(const fs::path& folder, const fs::path& target) {
  if (std::mismatch(folder.begin(), folder.end(), target.begin(), target.end()).first ==
      folder.end()) {
    return true;
  }
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" &&
         target.parent_path() == snapshots.parent_path() / "blobs";
}

// Adds the tensors of one file.
void add_file(HfFolder& model, const fs::path& path) {
  model.files.push_back(std::make_unique<MappedFile>(path));
  const std::string_view bytes = model.files.back()->bytes();
  for (auto& [name, entry] : parse_safetensors(bytes, path).tensors) {
    HfTensor tensor{find_safetensors_dtype(entry.dtype),
                    std::move(entry.shape),
                    bytes.substr(entry.begin, entry.end - entry.begin),
                    {}};
    if (!model.tensors.emplace(name, std::move(tensor)).second) {
      throw FormatError(path, name, "expected a tensor in one shard, found it in another one too");
    }
  }
}

// tensor -> shard, grouped by shard.
std::map<std::string, std::vector<std::string>> read_weight_map(const fs::path& path) {
  const json index = read_json_object(path);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) {
    throw FormatError(path, "weight_map", "expected an object from tensor to file");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string()) throw FormatError(path, tensor, "expected a file name");
    shards[file.get<std::string>()].push_back(tensor);
  }
  return shards;
}

void add_shards(HfFolder& model, const fs::path& folder, const fs::path& index) {
  for (const auto& [file, names] : read_weight_map(index)) {
    const auto shard = find_in_folder(folder, file);
    if (!shard) {
      throw FormatError(index, names.front(),
                        fmt::format("expected its shard {}, found no such "
                                    "file",
                                    file));
    }
    add_file(model, shard->path);
    const std::string_view bytes = model.files.back()->bytes();
    for (const std::string& name : names) {
      const auto found = model.tensors.find(name);
      // In this shard: the data lies in its mapping (an empty tensor's at its end).
      if (found == model.tensors.end() || found->second.bytes.data() < bytes.data() ||
          found->second.bytes.data() > bytes.data() + bytes.size()) {
        throw FormatError(shard->path, name, "expected the tensor that the index places here");
      }
    }
  }
}

/// Names as AutoModelForCausalLM takes them too: a model that was saved without its output layer
/// lacks the prefix "model.", or has it twice.
void settle_prefix(std::map<std::string, HfTensor>& tensors) {
  constexpr std::string_view kPrefix = "model.", kEmbedding = "embed_tokens.weight";
  const auto has = [&](const std::string& before) {
    return tensors.contains(before + std::string(kEmbedding));
  };
  const std::string prefix(kPrefix);
  if (has(prefix)) return;
  const bool lacks = has(""), doubled = has(prefix + prefix);
  if (!lacks && !doubled) return;
  std::map<std::string, HfTensor> renamed;
  while (!tensors.empty()) {
    auto tensor = tensors.extract(tensors.begin());
    const std::string name = tensor.key();
    if (lacks && !name.starts_with("lm_head.")) tensor.key() = prefix + name;
    if (doubled && name.starts_with(prefix + prefix)) tensor.key() = name.substr(prefix.size());
    renamed.insert(std::move(tensor));
  }
  tensors = std::move(renamed);
}

void refuse_if_adapter(const fs::path& folder, std::string_view expected) {
  if (!path_exists(folder / "adapter_config.json")) return;
  throw FormatError(
      folder, "",
      fmt::format("expected {}, found adapter_config.json: this is an adapter; merge it into its "
                  "base with peft's merge_and_unload() and save that",
                  expected));
}

[[noreturn]] void refuse_without_weights(const fs::path& folder) {
  for (const fs::path& entry : folder_entries(folder)) {
    const std::string name = entry.filename().string();
    if (name.starts_with("pytorch_model") && name.ends_with(".bin")) {
      throw FormatError(folder, name,
                        "expected safetensors: pickles can run code and are never read; convert "
                        "them with save_pretrained of a current transformers");
    }
  }
  refuse_if_adapter(folder, fmt::format("{} or {}", kSingle, kIndex));
  throw FormatError(folder, "", fmt::format("expected {} or {}, found neither", kSingle, kIndex));
}

[[noreturn]] void refuse_without_config(const fs::path& folder) {
  refuse_if_adapter(folder, "config.json");
  for (const fs::path& entry : folder_entries(folder)) {
    if (entry.extension() == ".gguf") {
      throw FormatError(folder, "",
                        fmt::format("expected config.json, found none; to open {}, name the file",
                                    entry.filename().string()));
    }
  }
  throw FormatError(folder, "", "expected config.json, found none");
}

json read_object_if_any(const fs::path& folder, const std::string& name) {
  const auto file = find_in_folder(folder, name);
  return file && !is_blank_file(file->path) ? read_json_object(file->path) : json::object();
}

// Links to files outside the folder, all in one line.
std::optional<std::string> note_on_links(const fs::path& folder) {
  std::set<std::string> names;
  const fs::path inside = fs::canonical(folder);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    std::error_code unreadable;
    if (!entry.is_symlink(unreadable) || !entry.is_regular_file(unreadable)) continue;
    const fs::path target = fs::canonical(entry.path(), unreadable);
    if (!unreadable && !lies_in(inside, target)) names.insert(entry.path().filename().string());
  }
  if (names.empty()) return std::nullopt;
  constexpr size_t kShown = 3;
  const std::vector<std::string> shown(names.begin(),
                                       std::next(names.begin(), std::min(kShown, names.size())));
  const std::string more =
      names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "";
  return fmt::format(
      "{}: {}{} lead out of the folder; such links are followed, but only weights and config.json "
      "go into a model that is written",
      folder.string(), fmt::join(shown, ", "), more);
}

}  // namespace

std::optional<FolderFile> find_in_folder(const fs::path& folder, const std::string& name) {
  if (!is_plain_name(name)) {
    throw FormatError(folder, name.substr(0, 120),
                      "expected the plain name of a file in the folder");
  }
  const fs::path path = folder / name;
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  if (error == std::errc::no_such_file_or_directory) return std::nullopt;
  if (error) throw SystemError("cannot open", path, error.value());
  return FolderFile{path, !lies_in(fs::canonical(folder), target)};
}

HfFolder open_hf_folder(const fs::path& folder) {
  HfFolder model;
  const auto config = find_in_folder(folder, "config.json");
  if (!config) refuse_without_config(folder);
  model.config = read_json_object(config->path);
  const WeightQuantization quantization =
      take_quantization(model.config, read_object_if_any(folder, "hf_quant_config.json"), folder);
  model.generation_config = read_object_if_any(folder, "generation_config.json");

  if (const auto single = find_in_folder(folder, kSingle)) {
    add_file(model, single->path);
  } else if (const auto index = find_in_folder(folder, kIndex)) {
    add_shards(model, folder, index->path);
  } else {
    refuse_without_weights(folder);
  }
  settle_prefix(model.tensors);
  describe_packed(model.config, model.tensors, quantization.packed, folder);
  describe_nf4(model.config, model.tensors, folder);
  auto packed = take_packed(model.tensors, model.config);
  auto nf4 = take_nf4(model.tensors, model.config);
  attach_scales(model.tensors, quantization, folder);
  split_fused_rows(model.config, model.tensors, folder);
  model.tensors.merge(packed);
  model.tensors.merge(nf4);
  if (const auto note = settle_tied_head(model.config, model.tensors)) {
    model.notes.push_back(folder.string() + ": " + *note);
  }
  if (const auto note = note_on_links(folder)) model.notes.push_back(*note);
  return model;
}

}  // namespace schmidt::io
