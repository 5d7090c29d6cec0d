#include "schmidt/io/nf4_state.h"

#include <algorithm>
#include <bit>
#include <limits>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/io/layer_forms.h"

namespace schmidt::io {
namespace {

using nlohmann::json;
using nlohmann::json_literals::operator""_json_pointer;

constexpr std::string_view kFp4StateEnd = ".weight.quant_state.bitsandbytes__fp4";
constexpr int64_t kLeastBlock = 32, kMostBlock = 4096;
constexpr JsonLimits kLimits = {.max_bytes = 1 << 16, .max_depth = 4};
constexpr std::string_view kKeys[] = {"quant_type",       "blocksize",    "dtype",        "shape",
                                      "nested_blocksize", "nested_dtype", "nested_offset"};
constexpr std::string_view kDtypes[] = {"float32", "float16", "bfloat16"};

int64_t block_size(const JsonRecord& record, const char* key) {
  const int64_t block = record.integer(key, kLeastBlock, kMostBlock);
  if (!std::has_single_bit(static_cast<uint64_t>(block))) {
    record.fail(key, fmt::format("expected a power of two from {} to {}, found {}", kLeastBlock,
                                 kMostBlock, block));
  }
  return block;
}

std::string dtype_of(const JsonRecord& record, const char* key) {
  std::string dtype = record.text(key);
  if (std::ranges::find(kDtypes, dtype) == std::end(kDtypes)) {
    record.fail(key, fmt::format("expected float32, float16 or bfloat16, found \"{}\"",
                                 dtype.substr(0, 60)));
  }
  return dtype;
}

void read_shape(const JsonRecord& record, Nf4State& state) {
  const std::vector<int64_t> shape = record.sizes("shape");
  if (shape.size() != 2) record.fail("shape", "expected rows and columns");
  state.rows = shape[0];
  state.columns = shape[1];
}

std::string without(const std::string& name, std::string_view end) {
  return name.substr(0, name.size() - end.size());
}

}  // namespace

Nf4State parse_nf4_state(std::string_view text, const std::string& name,
                         const std::filesystem::path& path) {
  json object;
  try {
    object = parse_json(text, path, kLimits);
  } catch (const FormatError&) {
    throw FormatError(path, name, "expected JSON, the state of a weight in NF4");
  }
  const JsonRecord record(object, name, path);
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(kKeys, key) == std::end(kKeys)) {
      throw FormatError(path, name,
                        fmt::format("expected the state of a weight in NF4 as bitsandbytes 0.50 "
                                    "writes it, found a key \"{}\"",
                                    key.substr(0, 60)));
    }
  }
  if (const std::string type = record.text("quant_type"); type != kNf4Kind) {
    record.fail("quant_type", fmt::format("expected nf4, found \"{}\"", type.substr(0, 60)));
  }
  Nf4State state{.block = block_size(record, "blocksize"), .dtype = dtype_of(record, "dtype")};
  read_shape(record, state);
  if (!record.has("nested_blocksize") && !record.has("nested_offset")) return state;
  state.nested_block = block_size(record, "nested_blocksize");
  constexpr double kMost = std::numeric_limits<float>::max();
  state.offset = record.number("nested_offset", -kMost, kMost);
  return state;
}

std::string nf4_state_text(const Nf4State& state) {
  nlohmann::ordered_json object = {{"quant_type", kNf4Kind},
                                   {"blocksize", state.block},
                                   {"dtype", state.dtype},
                                   {"shape", {state.rows, state.columns}}};
  if (state.nested_block > 0) {
    object["nested_blocksize"] = state.nested_block;
    object["nested_dtype"] = "float32";
    object["nested_offset"] = state.offset;
  }
  return json_text(object);
}

std::string Nf4State::layout() const {
  return fmt::format("{} x {}, blocks of {}{}", rows, columns, block,
                     nested_block > 0 ? fmt::format(", magnitudes of {}", nested_block) : "");
}

json nf4_form(const Nf4State& state, std::string_view text) {
  json form = {{"kind", kNf4Kind},
               {"shape", {state.rows, state.columns}},
               {"block", state.block},
               {"state_bytes", text.size()}};
  if (state.nested_block > 0) form["nested_block"] = state.nested_block;
  return form;
}

Nf4State parse_nf4_form(const JsonRecord& form) {
  Nf4State state{.block = block_size(form, "block")};
  read_shape(form, state);
  if (form.has("nested_block")) state.nested_block = block_size(form, "nested_block");
  return state;
}

void describe_nf4(json& config, const std::map<std::string, HfTensor>& tensors,
                  const std::filesystem::path& folder) {
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(kFp4StateEnd)) {
      throw FormatError(folder, without(name, kFp4StateEnd),
                        "expected a weight in NF4, found one in FP4 of bitsandbytes, which is not "
                        "read; start from the original model");
    }
    if (!name.ends_with(kNf4StateEnd)) continue;
    const std::string layer = without(name, kNf4StateEnd);
    if (is_described(config, layer)) continue;
    const Nf4State state = parse_nf4_state(tensor.bytes, name, folder);
    describe_layer(config, layer, nf4_form(state, tensor.bytes), folder);
  }
}

std::map<std::string, HfTensor> take_nf4(std::map<std::string, HfTensor>& tensors,
                                         const json& config) {
  std::map<std::string, HfTensor> taken;
  const json layers = config.value("/compression_config/layers"_json_pointer, json());
  if (!layers.is_object()) return taken;
  for (const auto& [layer, form] : layers.items()) {
    if (!form.is_object() || form.value("kind", json()) != kNf4Kind) continue;
    for (const std::string_view end : kNf4Ends) {
      const auto found = tensors.find(layer + std::string(end));
      if (found != tensors.end()) taken.insert(tensors.extract(found));
    }
  }
  return taken;
}

}  // namespace schmidt::io
