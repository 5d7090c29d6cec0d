#include "schmidt/io/gguf_model.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_config.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

struct Name {
  std::string_view gguf;
  std::string_view hugging_face;
};

constexpr Name kGlobalNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Between "blk.N." or "model.layers.N." and ".weight" or ".bias".
constexpr Name kLayerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// Not a weight: what it says goes into config.json (see gguf_config.h).
constexpr std::string_view kRopeFactors = "rope_freqs.weight";

struct Translated {
  std::string name;       // empty: unknown
  std::string_view part;  // of a layer: "attn_q"
};

Translated translate(std::string_view gguf) {
  for (const Name& name : kGlobalNames) {
    if (gguf == name.gguf) return {std::string(name.hugging_face), {}};
  }
  if (!gguf.starts_with("blk.")) return {};
  const std::string_view rest = gguf.substr(4);
  int layer = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const std::string_view after = rest.substr(static_cast<size_t>(end - rest.data()));
  const size_t dot = after.rfind('.');
  if (error != std::errc() || layer < 0 || !after.starts_with('.') || dot == 0) return {};
  const std::string_view part = after.substr(1, dot - 1);
  const std::string_view kind = after.substr(dot + 1);
  if (kind != "weight" && kind != "bias") return {};
  for (const Name& name : kLayerNames) {
    if (part == name.gguf) {
      return {fmt::format("model.layers.{}.{}.{}", layer, name.hugging_face, kind), name.gguf};
    }
  }
  return {};
}

}  // namespace

GgufModel as_hugging_face(GgufFile file) {
  const GgufArchitecture& architecture = gguf_architecture(file);
  GgufModel model{std::move(file), {}, {}, {}};
  model.config = config_from_gguf(model.file);
  model.generation_config = generation_config_from_gguf(model.file);

  std::map<std::string_view, int64_t> interleaved;
  if (architecture.interleaved_qk) {
    interleaved = {{"attn_q", model.config.at("num_attention_heads").get<int64_t>()},
                   {"attn_k", model.config.at("num_key_value_heads").get<int64_t>()}};
  }
  for (const auto& [name, stored] : model.file.tensors()) {
    if (name == kRopeFactors) continue;
    const std::filesystem::path& path = model.file.path();
    Translated translated = translate(name);
    if (translated.name.empty()) {
      throw FormatError(path, "tensor " + name,
                        fmt::format("expected a tensor of a dense {} model, found one that has no "
                                    "place in it",
                                    architecture.name));
    }
    GgufWeight weight{&stored, 0};
    if (const auto heads = interleaved.find(translated.part); heads != interleaved.end()) {
      weight.interleaved_heads = heads->second;
      const int64_t rows = stored.shape.front();
      if (rows % heads->second != 0 || rows / heads->second % 2 != 0) {
        throw FormatError(path, "tensor " + name,
                          fmt::format("expected rows of {} heads of even size, found {} rows",
                                      heads->second, rows));
      }
    }
    if (!model.tensors.emplace(std::move(translated.name), weight).second) {
      throw FormatError(path, "tensor " + name, "expected a tensor once, found it twice");
    }
  }
  return model;
}

GgufModel open_gguf_model(const std::filesystem::path& path) {
  return as_hugging_face(GgufFile::open(path));
}

EncodedTensor load_encoded(const GgufWeight& weight, std::shared_ptr<const void> file) {
  const GgufTensor& stored = *weight.stored;
  if (weight.interleaved_heads == 0) {
    return {stored.format, stored.shape, stored.bytes, std::move(file)};
  }
  if (stored.shape.size() == 1 && stored.format->values > 1) {
    const auto decoded = std::make_shared<const torch::Tensor>(load_tensor(weight));
    const auto* data = static_cast<const char*>(decoded->const_data_ptr());
    return {quant::find_format("F32"), stored.shape, {data, decoded->nbytes()}, decoded};
  }
  auto ordered = std::make_shared<std::string>();
  ordered->reserve(stored.bytes.size());
  const int64_t rows = stored.shape.front();
  const int64_t half = rows / weight.interleaved_heads / 2;
  const size_t row_bytes = stored.bytes.size() / static_cast<size_t>(rows);
  for (int64_t head = 0; head < rows; head += 2 * half) {
    for (int64_t j = 0; j < 2; ++j) {
      for (int64_t i = 0; i < half; ++i) {
        ordered->append(
            stored.bytes.substr(static_cast<size_t>(head + 2 * i + j) * row_bytes, row_bytes));
      }
    }
  }
  return {stored.format, stored.shape, *ordered, ordered};
}

torch::Tensor load_tensor(const GgufWeight& weight) {
  const GgufTensor& stored = *weight.stored;
  torch::Tensor tensor = decode_tensor(stored.bytes, *stored.format, stored.shape);
  if (weight.interleaved_heads == 0) return tensor;
  const int64_t heads = weight.interleaved_heads;
  const int64_t half = stored.shape.front() / heads / 2;
  return tensor
      .view({heads, half, 2, -1})  // [head, i, j, column]
      .transpose(1, 2)
      .reshape(stored.shape);
}

}  // namespace schmidt::io
