#include "schmidt/io/hf_folder.h"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
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
bool may_lead_to(const fs::path& folder, const fs::path& target) {
  const fs::path parent = target.parent_path();
  if (parent == folder) return true;
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" && parent == snapshots.parent_path() / "blobs";
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
    add_file(model, *shard);
    const std::string_view bytes = model.files.back()->bytes();
    for (const std::string& name : names) {
      const auto found = model.tensors.find(name);
      // In this shard: the data lies in its mapping (an empty tensor's at its end).
      if (found == model.tensors.end() || found->second.bytes.data() < bytes.data() ||
          found->second.bytes.data() > bytes.data() + bytes.size()) {
        throw FormatError(*shard, name, "expected the tensor that the index places here");
      }
    }
  }
}

[[noreturn]] void refuse_without_weights(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("pytorch_model") && name.ends_with(".bin")) {
      throw FormatError(folder, name,
                        "expected safetensors: pickles can run code and are never read; convert "
                        "them with save_pretrained of a current transformers");
    }
  }
  throw FormatError(folder, "", fmt::format("expected {} or {}, found neither", kSingle, kIndex));
}

[[noreturn]] void refuse_without_config(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".gguf") {
      throw FormatError(folder, "",
                        fmt::format("expected config.json, found none; to open {}, name the file",
                                    entry.path().filename().string()));
    }
  }
  throw FormatError(folder, "", "expected config.json, found none");
}

json read_object_if_any(const fs::path& folder, const std::string& name) {
  const auto file = find_in_folder(folder, name);
  return file ? read_json_object(*file) : json::object();
}

}  // namespace

std::optional<fs::path> find_in_folder(const fs::path& folder, const std::string& name) {
  if (!is_plain_name(name)) {
    throw FormatError(folder, name.substr(0, 120),
                      "expected the plain name of a file in the folder");
  }
  const fs::path path = folder / name;
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  if (error == std::errc::no_such_file_or_directory) return std::nullopt;
  if (error) throw SystemError("cannot open", path, error.value());
  if (!may_lead_to(fs::canonical(folder), target)) {
    throw FormatError(path, "", "expected a file in the folder, found a link that leads out of it");
  }
  return path;
}

HfFolder open_hf_folder(const fs::path& folder) {
  HfFolder model;
  const auto config = find_in_folder(folder, "config.json");
  if (!config) refuse_without_config(folder);
  model.config = read_json_object(*config);
  const WeightQuantization quantization =
      take_quantization(model.config, read_object_if_any(folder, "hf_quant_config.json"), folder);
  model.generation_config = read_object_if_any(folder, "generation_config.json");

  if (const auto single = find_in_folder(folder, kSingle)) {
    add_file(model, *single);
  } else if (const auto index = find_in_folder(folder, kIndex)) {
    add_shards(model, folder, *index);
  } else {
    refuse_without_weights(folder);
  }
  attach_scales(model.tensors, quantization, folder);
  if (const auto note = settle_tied_head(model.config, model.tensors)) {
    model.notes.push_back(folder.string() + ": " + *note);
  }
  return model;
}

}  // namespace schmidt::io
