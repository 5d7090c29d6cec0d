#include "schmidt/io/quantization_config.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/quant/integer_format.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kPlace = "quantization_config";
constexpr ScaleBlock kTensor = {0, 0};
constexpr ScaleBlock kChannel = {1, 0};
constexpr ScaleBlock kSquare = {128, 128};  // where a block is meant and none is given
constexpr int64_t kMaxBlock = int64_t{1} << 31;

/// An object of the quantization config, read without surprises by type.
class Entries {
 public:
  Entries(const json& object, const fs::path& file, std::string place)
      : object_(object), file_(file), place_(std::move(place)) {
    if (!object.is_object()) fail("expected an object");
  }

  /// Null for an absent key, and for null.
  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  std::string text(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) return "";
    if (!value->is_string()) fail(fmt::format("expected a text as {}", key));
    return value->get<std::string>();
  }

  bool flag(const char* key) const {
    const json* value = find(key);
    return value != nullptr && value->is_boolean() && value->get<bool>();
  }

  /// 0 for an absent key.
  int64_t size(const char* key) const {
    const json* value = find(key);
    return value == nullptr ? 0 : size(key, *value);
  }

  /// A pair of sizes, or nothing for an absent key.
  std::optional<ScaleBlock> block(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_array() || value->size() != 2) {
      fail(fmt::format("expected two sizes as {}", key));
    }
    return ScaleBlock{size(key, (*value)[0]), size(key, (*value)[1])};
  }

  /// Whether the key has an object or array that is not empty.
  bool holds(const char* key) const {
    const json* value = find(key);
    return value != nullptr && value->is_structured() && !value->empty();
  }

  const json& json_object() const { return object_; }
  const fs::path& file() const { return file_; }
  const std::string& place() const { return place_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw FormatError(file_, place_, reason);
  }

  [[noreturn]] void refuse(std::string_view format) const {
    fail(
        fmt::format("expected plain weights or FP8 with its scales, found {}, which is not read; "
                    "start from the original model",
                    format));
  }

 private:
  int64_t size(const char* key, const json& value) const {
    if (!value.is_number_integer() || value < 1 || value > kMaxBlock) {
      fail(fmt::format("expected a size from 1 to {} as {}", kMaxBlock, key));
    }
    return value.get<int64_t>();
  }

  const json& object_;
  const fs::path& file_;
  std::string place_;
};

WeightQuantization fp8(std::vector<ScaleBlock> blocks) { return {true, std::move(blocks), {}}; }

std::vector<ScaleBlock> blocks_of_fp8(const Entries& config) {
  if (config.json_object().contains("weight_block_size")) {
    if (const auto block = config.block("weight_block_size")) return {*block};
    return {kTensor, kChannel};
  }
  return {kTensor, kChannel, kSquare};
}

WeightQuantization read_fp8(const Entries& config) { return fp8(blocks_of_fp8(config)); }

WeightQuantization read_fbgemm(const Entries&) { return fp8({kTensor, kChannel}); }

WeightQuantization read_modelopt(const Entries& config) {
  const std::string algorithm = config.text("quant_algo");
  if (algorithm == "FP8" || algorithm == "FP8_PER_CHANNEL_PER_TOKEN") {
    return fp8({kTensor, kChannel});
  }
  config.refuse("ModelOpt " + (algorithm.empty() ? "without quant_algo" : algorithm));
}

ScaleBlock read_strategy(const Entries& weights) {
  const std::string strategy = weights.text("strategy");
  const int64_t group = weights.size("group_size");
  if (strategy == "tensor" || (strategy.empty() && group == 0)) return kTensor;
  if (strategy == "channel") return kChannel;
  if (strategy == "group" || strategy.empty()) {
    if (group == 0) weights.fail("expected a group_size beside the strategy group");
    return {1, group};
  }
  if (strategy == "block") return weights.block("block_structure").value_or(kSquare);
  weights.refuse(fmt::format("compressed-tensors with strategy {}", strategy));
}

PackedScheme read_packed(const Entries& group, const Entries& weights, int64_t bits) {
  PackedScheme scheme{static_cast<int>(bits), 0, true, {}};
  scheme.symmetric = weights.find("symmetric") == nullptr || weights.flag("symmetric");
  const std::string strategy = weights.text("strategy");
  if (strategy == "group") {
    scheme.group = weights.size("group_size");
    if (scheme.group == 0) weights.fail("expected a group_size beside the strategy group");
  } else if (strategy != "channel") {
    weights.refuse(fmt::format("compressed-tensors pack-quantized by {}", strategy));
  }
  const std::string order = weights.find("actorder") != nullptr ? weights.text("actorder") : "";
  if (!order.empty() && order != "weight" && order != "static") {
    weights.refuse("compressed-tensors with reordered columns");
  }
  const json* targets = group.find("targets");
  if (targets != nullptr && targets->is_array()) {
    for (const json& target : *targets) {
      if (target.is_string()) scheme.targets.push_back(target.get<std::string>());
    }
  }
  return scheme;
}

// One of config_groups: a scheme in full, or {"FP8": targets}, a scheme by its name.
void read_group(const Entries& config, const std::string& name, const json& value,
                WeightQuantization& found_so_far) {
  if (value.is_array()) {
    if (!name.starts_with("FP8")) config.refuse("compressed-tensors " + name);
    for (const ScaleBlock& block : {kTensor, kChannel, kSquare}) {
      found_so_far.blocks.push_back(block);
    }
    return;
  }
  const Entries group(value, config.file(), config.place() + ".config_groups." + name);
  const json* found = group.find("weights");
  if (found == nullptr) return;  // of activations alone
  const Entries weights(*found, config.file(), group.place() + ".weights");
  const std::string own = group.text("format");
  const std::string format = own.empty() ? config.text("format") : own;
  const std::string type = weights.find("type") != nullptr ? weights.text("type") : "int";
  const int64_t bits = weights.find("num_bits") != nullptr ? weights.size("num_bits") : 8;
  if (type == "int" && format == "pack-quantized" && quant::is_integer_width(bits)) {
    found_so_far.packed.push_back(read_packed(group, weights, bits));
    return;
  }
  const bool readable = format.empty() || format == "float-quantized" ||
                        format == "naive-quantized" || format == "mixed-precision";
  if (type != "float" || bits != 8 || !readable) {
    config.refuse(fmt::format("compressed-tensors {}{}{} {} bit", format,
                              format.empty() ? "" : " with ", type, bits));
  }
  found_so_far.blocks.push_back(read_strategy(weights));
}

WeightQuantization read_compressed_tensors(const Entries& config) {
  if (const json* sparsity = config.find("sparsity_config"); sparsity && !sparsity->empty()) {
    const Entries sparse(*sparsity, config.file(), config.place() + ".sparsity_config");
    const std::string format = sparse.text("format");
    if (format != "dense") config.refuse("compressed-tensors " + format);
  }
  if (const json* transforms = config.find("transform_config")) {
    const Entries rotated(*transforms, config.file(), config.place() + ".transform_config");
    if (rotated.holds("config_groups")) config.refuse("compressed-tensors with rotated weights");
  }
  WeightQuantization read;
  if (const json* groups = config.find("config_groups")) {
    if (!groups->is_object()) config.fail("expected an object as config_groups");
    for (const auto& [name, group] : groups->items()) {
      read_group(config, name, group, read);
    }
  }
  read.declared = !read.blocks.empty();
  if (read.declared || !read.packed.empty()) return read;
  const std::string format = config.text("format");
  if (!format.empty() && format != "float-quantized" && format != "naive-quantized") {
    config.refuse("compressed-tensors " + format);
  }
  return fp8({kTensor, kChannel, kSquare});
}

bool has_flag(const Entries& config, const std::string& name) {
  return config.flag(name.c_str()) || config.flag(("_" + name).c_str());
}

/// NF4 describes itself beside its tensors (io/nf4_state).
WeightQuantization read_bitsandbytes(const Entries& config) {
  if (has_flag(config, "load_in_8bit")) config.refuse("bitsandbytes LLM.int8()");
  if (!has_flag(config, "load_in_4bit")) config.refuse("bitsandbytes");
  const std::string type = config.text("bnb_4bit_quant_type");
  if (type != "nf4") config.refuse("bitsandbytes " + (type.empty() ? "fp4" : type.substr(0, 60)));
  const std::string storage = config.text("bnb_4bit_quant_storage");
  if (!storage.empty() && storage != "uint8") {
    config.refuse("bitsandbytes nf4 in tensors of " + storage.substr(0, 60));
  }
  return {false, {kTensor, kChannel, kSquare}, {}};
}

struct Method {
  std::string_view name;  // quant_method, in lower case and with "-" for "_"
  std::string_view shown;
  WeightQuantization (*read)(const Entries&);  // null: not read
};

constexpr Method kMethods[] = {
    {"fp8", "FP8", read_fp8},
    {"fbgemm-fp8", "FBGEMM FP8", read_fbgemm},
    {"compressed-tensors", "compressed-tensors", read_compressed_tensors},
    {"modelopt", "ModelOpt", read_modelopt},
    {"gptq", "GPTQ", nullptr},
    {"awq", "AWQ", nullptr},
    {"bitsandbytes", "bitsandbytes", read_bitsandbytes},
    {"mxfp4", "MXFP4", nullptr},
    {"hqq", "HQQ", nullptr},
    {"aqlm", "AQLM", nullptr},
    {"quanto", "Quanto", nullptr},
    {"eetq", "EETQ", nullptr},
    {"vptq", "VPTQ", nullptr},
    {"spqr", "SpQR", nullptr},
    {"higgs", "HIGGS", nullptr},
    {"bitnet", "BitNet", nullptr},
    {"auto-round", "AutoRound", nullptr},
    {"quark", "Quark", nullptr},
};

struct TensorEnd {
  std::string_view end;
  std::string_view format;
};

constexpr TensorEnd kTensorEnds[] = {
    {".qweight", "GPTQ or AWQ"},
    {".qzeros", "GPTQ or AWQ"},
    {".g_idx", "GPTQ"},
    {".absmax", "bitsandbytes 4 bit"},
    {".quant_map", "bitsandbytes 4 bit"},
    {".SCB", "bitsandbytes LLM.int8()"},
    {".weight_packed", "packed compressed-tensors"},
    {".bitmask", "sparse compressed-tensors"},
    {".weight_scale_2", "NVFP4"},
    {".weight_global_scale", "NVFP4"},
    {"_blocks", "MXFP4"},
    {".W_q", "HQQ"},
    {".codebooks", "AQLM"},
    {".weight._data", "Quanto"},
    {".weight_scales", "EETQ"},
};

std::string method_of(const Entries& config) {
  std::string method = config.text("quant_method");
  std::ranges::transform(method, method.begin(), [](unsigned char c) {
    return c == '_' ? '-' : static_cast<char>(std::tolower(c));
  });
  if (!method.empty()) return method;
  for (const char* key : {"load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit"}) {
    if (config.flag(key)) return "bitsandbytes";
  }
  if (config.find("config_groups") != nullptr) return "compressed-tensors";
  return config.find("quant_algo") != nullptr ? "modelopt" : "";
}

std::string bits_of(const Entries& config) {
  const json* bits = config.find("bits");
  return bits != nullptr && bits->is_number_integer() ? fmt::format(" {} bit", bits->dump()) : "";
}

WeightQuantization read(const Entries& config) {
  const std::string name = method_of(config);
  if (name.empty()) config.fail("expected quant_method, found none");
  const auto* method = std::ranges::find(kMethods, std::string_view(name), &Method::name);
  if (method == std::end(kMethods)) config.refuse(name.substr(0, 60) + bits_of(config));
  if (method->read == nullptr) config.refuse(std::string(method->shown) + bits_of(config));
  return method->read(config);
}

// Older compressed-tensors wrote under the key that is schmidt's own.
bool is_foreign(const json& compression) {
  return compression.is_object() &&
         (compression.contains("quant_method") || compression.contains("config_groups") ||
          compression.contains("quantization_config"));
}

// compressed-tensors nests its parts where it holds two of them.
json unnested(json config) {
  const auto inner = config.is_object() ? config.find("quantization_config") : config.end();
  if (!config.is_object() || inner == config.end() || !inner->is_object()) return config;
  json merged = *inner;
  config.erase("quantization_config");
  merged.update(config);
  return merged;
}

}  // namespace

WeightQuantization take_quantization(json& config, const json& hf_quant_config,
                                     const fs::path& folder) {
  WeightQuantization undeclared{false, {kTensor, kChannel, kSquare}, {}};
  json found;
  const fs::path file = folder / "config.json";
  for (const char* key : {kPlace, "compression_config"}) {
    const auto value = config.find(key);
    if (value == config.end() || (key != kPlace && !is_foreign(*value))) continue;
    if (found.empty()) found = std::move(*value);
    config.erase(key);
  }
  if (!found.is_null() && !(found.is_object() && found.empty())) {
    found = unnested(std::move(found));
    return read(Entries(found, file, kPlace));
  }
  if (!hf_quant_config.is_object() || !hf_quant_config.contains("quantization")) return undeclared;
  const fs::path other = folder / "hf_quant_config.json";
  const Entries modelopt(hf_quant_config.at("quantization"), other, "quantization");
  if (modelopt.find("quant_algo") == nullptr) return undeclared;
  return read_modelopt(modelopt);
}

std::string_view unread_format_of(std::string_view tensor) {
  for (const TensorEnd& known : kTensorEnds) {
    if (tensor.ends_with(known.end)) return known.format;
  }
  return {};
}

}  // namespace schmidt::io
