#include "schmidt/convert/adapter.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/file_system.h"
#include "schmidt/convert/gguf_metadata.h"
#include "schmidt/convert/gguf_types.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/io/fused_rows.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/gguf_names.h"
#include "schmidt/io/gguf_writer.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/package/checkpoint_folder.h"

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr const char* kAdapterModel = "adapter_model.safetensors";

int64_t largest_rank(const std::vector<LowRankGroup>& groups) {
  return std::ranges::max_element(groups, {}, &LowRankGroup::rank)->rank;
}

/// A factor in the type of the adapter's file.
torch::Tensor narrowed(const torch::Tensor& factor, torch::ScalarType dtype,
                       const std::string& name, const fs::path& model) {
  check_finite(factor, name, model);
  torch::Tensor narrow = factor.to(dtype);
  TORCH_CHECK_VALUE(at::isfinite(narrow).all().item<bool>(), "[export] expected low ranks that ",
                    std::string(io::dtype_name(dtype)), " can hold, got larger ones in ", name,
                    "; float32 holds them");
  return narrow;
}

/// Both factors of each member: all read the same A.
template <typename Write>
void for_each_member(const io::Checkpoint& checkpoint, const std::vector<LowRankGroup>& groups,
                     const Write& write) {
  for (const LowRankGroup& group : groups) {
    const LowRankFactors factors = load_low_rank(checkpoint, group);
    int64_t row = 0;
    for (const model::LayerSpec& member : group.group.members) {
      write(group, member, factors.a, factors.b.narrow(0, row, member.out_features));
      row += member.out_features;
    }
  }
}

}  // namespace

void check_layers_stand_alone(const io::Checkpoint& checkpoint, const std::string& program,
                              const std::string& instead) {
  const bool experts =
      model::parse_config(checkpoint.config(), checkpoint.path()).experts.has_value();
  TORCH_CHECK_VALUE(!experts && io::fused_modules(checkpoint.config()).empty(),
                    "[export] expected a model whose layers are layers in ", program, " too, got ",
                    checkpoint.config().value("model_type", ""), ", of which it holds several as ",
                    "one tensor: an adapter has no place for them", instead);
}

void write_gguf_adapter(const io::Checkpoint& checkpoint, const model::ModelConfig& config,
                        const std::vector<LowRankGroup>& groups, const quant::Format& type,
                        const fs::path& file) {
  const int64_t alpha = largest_rank(groups);
  std::map<std::string, io::GgufValue> keys = gguf_model_keys(checkpoint, config);
  std::erase_if(keys, [](const auto& entry) { return !entry.first.starts_with("general."); });
  keys["general.type"] = {"adapter"};
  keys["adapter.type"] = {"lora"};
  keys["adapter.lora.alpha"] = {static_cast<float>(alpha)};
  keys[kGgufMadeBy] = {"schmidt export"};

  const io::GgufNames names = gguf_names_of(checkpoint, config);
  const auto name_of = [&](const model::LayerSpec& member) {
    return names.of_file(member.name + ".weight").value();
  };
  std::vector<io::GgufTensorSpec> specs;
  for (const LowRankGroup& group : groups) {
    for (const model::LayerSpec& member : group.group.members) {
      const std::string name = name_of(member);
      specs.push_back({name + ".lora_a", {group.rank, member.in_features}, &type});
      specs.push_back({name + ".lora_b", {member.out_features, group.rank}, &type});
    }
  }
  io::GgufWriter out(file, keys, specs);
  for_each_member(checkpoint, groups,
                  [&](const LowRankGroup& group, const model::LayerSpec& member,
                      const torch::Tensor& a, const torch::Tensor& b) {
                    const std::string name = name_of(member);
                    const double scale =
                        static_cast<double>(group.rank) / static_cast<double>(alpha);
                    const auto encoded = [&](const torch::Tensor& factor) {
                      return encode_weight(factor, type, name, checkpoint.path());
                    };
                    std::string rows = encoded(scale == 1 ? b : b * scale);
                    if (const int64_t heads = interleaved_heads(name, config); heads != 0) {
                      rows = io::interleaved_rows(rows, member.out_features, heads);
                    }
                    out.write(name + ".lora_a", encoded(a));
                    out.write(name + ".lora_b", rows);
                  });
  out.finish();
}

void write_peft_adapter(const io::Checkpoint& checkpoint, const std::vector<LowRankGroup>& groups,
                        torch::ScalarType dtype, const std::string& base, const fs::path& folder) {
  const auto name_of = [](const model::LayerSpec& member, const char* side) {
    return "base_model.model." + member.name + "." + side + ".weight";
  };
  const int64_t rank = largest_rank(groups);
  nlohmann::json targets = nlohmann::json::array(), ranks = nlohmann::json::object();
  std::vector<io::TensorSpec> specs;
  for (const LowRankGroup& group : groups) {
    for (const model::LayerSpec& member : group.group.members) {
      targets.push_back(member.name);
      if (group.rank != rank) ranks[member.name] = group.rank;
      specs.push_back({name_of(member, "lora_A"), dtype, {group.rank, member.in_features}});
      specs.push_back({name_of(member, "lora_B"), dtype, {member.out_features, group.rank}});
    }
  }
  // Of one file, however large, and under the name that peft looks for.
  io::SafetensorsWriter out(folder, specs, package::kExportMetadata,
                            std::numeric_limits<uint64_t>::max());
  for_each_member(checkpoint, groups,
                  [&](const LowRankGroup& /*group*/, const model::LayerSpec& member,
                      const torch::Tensor& a, const torch::Tensor& b) {
                    const auto write = [&](const char* side, const torch::Tensor& factor) {
                      out.write(name_of(member, side),
                                narrowed(factor, dtype, member.name, checkpoint.path()));
                    };
                    write("lora_A", a);
                    write("lora_B", b);
                  });
  out.finish();
  move_path(folder / "model.safetensors", folder / kAdapterModel);

  const nlohmann::json config = {{"peft_type", "LORA"},
                                 {"task_type", "CAUSAL_LM"},
                                 {"base_model_name_or_path", base},
                                 {"inference_mode", true},
                                 {"r", rank},
                                 {"lora_alpha", rank},
                                 {"rank_pattern", ranks},
                                 {"alpha_pattern", ranks},
                                 {"target_modules", targets},
                                 {"lora_dropout", 0.0},
                                 {"bias", "none"},
                                 {"fan_in_fan_out", false},
                                 {"use_rslora", false},
                                 {"use_dora", false},
                                 {"modules_to_save", nullptr}};
  write_file_atomically(folder / kAdapterConfig, io::json_text(config, 2) + "\n");
}

namespace {

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return name == kLockFile || std::ranges::find(names, whole_name(name)) != names.end();
}

bool in_gguf_folder(const std::string& name) { return is_one_of(name, {kBaseGguf, kLowRankGguf}); }

bool in_peft_folder(const std::string& name) {
  return is_one_of(name, {kBaseFolder, kAdapterConfig, kAdapterModel, "model.safetensors"});
}

std::optional<std::string> foreign_to_gguf(const fs::path& folder) {
  if (auto name = foreign_name(folder, in_gguf_folder)) return name;
  for (const char* name : {kBaseGguf, kLowRankGguf}) {
    if (!is_exported_gguf(folder / name)) return fmt::format("no {} that was exported", name);
  }
  return std::nullopt;
}

std::optional<std::string> foreign_to_peft(const fs::path& folder) {
  if (auto name = foreign_name(folder, in_peft_folder)) return name;
  const fs::path base = folder / kBaseFolder;
  if (!is_folder(base)) return fmt::format("no {} that was exported", kBaseFolder);
  return package::checkpoint_folder().foreign(base);
}

}  // namespace

FolderKind gguf_adapter_folder() { return {foreign_to_gguf, in_gguf_folder}; }

FolderKind peft_adapter_folder() { return {foreign_to_peft, in_peft_folder}; }

}  // namespace schmidt::convert
