#include "schmidt/io/gguf_model.h"

#include <functional>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_architecture.h"
#include "schmidt/io/gguf_config.h"
#include "schmidt/io/gguf_names.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

/// The rows of each head, [a, b], in the order of [b, a].
std::string transposed_rows(std::string_view bytes, int64_t rows, int64_t heads, int64_t a) {
  const int64_t b = rows / heads / a;
  const size_t row_bytes = bytes.size() / static_cast<size_t>(rows);
  std::string transposed;
  transposed.reserve(bytes.size());
  for (int64_t head = 0; head < rows; head += a * b) {
    for (int64_t j = 0; j < b; ++j) {
      for (int64_t i = 0; i < a; ++i) {
        transposed.append(
            bytes.substr(static_cast<size_t>(head + i * b + j) * row_bytes, row_bytes));
      }
    }
  }
  return transposed;
}

/// The model's tensors in one of the file's: so many shares of its rows each or, without shares,
/// a matrix each.
std::vector<GgufWeight> parts_of(const GgufWeight& whole, const std::vector<int64_t>& shares,
                                 const std::vector<std::string>& names,
                                 const std::function<void(const std::string&)>& fail) {
  const auto count = static_cast<int64_t>(names.size());
  const int64_t all =
      shares.empty() ? count : std::accumulate(shares.begin(), shares.end(), int64_t{0});
  const int64_t front = whole.shape.front();
  const int64_t unit = whole.shape.size() == 1 ? whole.format->values : 1;  // stays in one piece
  if (shares.empty() ? whole.shape.size() != 3 || front != count : front % (all * unit) != 0) {
    fail(shares.empty()
             ? fmt::format("expected the matrices of {} experts", count)
             : fmt::format("expected rows of {} parts of one size, found {}", all, front));
  }
  std::vector<GgufWeight> parts;
  size_t begin = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t share = shares.empty() ? 1 : shares[static_cast<size_t>(i)];
    GgufWeight part = whole;
    if (shares.empty()) {
      part.shape.erase(part.shape.begin());
    } else {
      part.shape.front() = front / all * share;
    }
    const size_t bytes = whole.bytes.size() / static_cast<size_t>(all) * static_cast<size_t>(share);
    part.bytes = whole.bytes.substr(begin, bytes);
    begin += bytes;
    parts.push_back(std::move(part));
  }
  return parts;
}

/// Whether the model of that config adds a bias of that part of a block.
bool computes_bias(const nlohmann::json& config, std::string_view part) {
  const auto is_set = [&](const char* key) { return config.value(key, false); };
  if (part.ends_with("norm")) return false;
  if (part.starts_with("ffn_")) return is_set("mlp_bias");
  const std::string type = config.at("model_type");
  const bool always = (type == "qwen2" || type == "qwen2_moe") && part != "attn_output";
  return part.starts_with("attn_") && (always || is_set("attention_bias"));
}

}  // namespace

GgufModel as_hugging_face(GgufFile file) {
  const GgufArchitecture& architecture = gguf_architecture(file);
  GgufModel model{std::move(file), {}, {}, {}};
  model.config = config_from_gguf(model.file);
  model.generation_config = generation_config_from_gguf(model.file);

  const char* counted =
      model.config.contains("num_local_experts") ? "num_local_experts" : "num_experts";
  const GgufNames names(architecture.names, model.config, model.config.value(counted, int64_t{0}));
  std::map<std::string_view, int64_t> interleaved;
  if (architecture.interleaved_qk) {
    interleaved = {{"attn_q", model.config.at("num_attention_heads").get<int64_t>()},
                   {"attn_k", model.config.at("num_key_value_heads").get<int64_t>()}};
  }
  for (const auto& [name, stored] : model.file.tensors()) {
    const bool longrope = name == kGgufShortFactors || name == kGgufLongFactors;
    if (name == kGgufRopeFactors || (longrope && architecture.model_type == "phi3")) continue;
    const auto fail = [&, &name = name](const std::string& reason) {
      throw FormatError(model.file.path(), "tensor " + name, reason);
    };
    const int64_t blocks = model.config.at("num_hidden_layers");
    if (const auto block = number_of_block(name); block && *block >= blocks) {
      fail(fmt::format("expected a block below {}, the number of blocks", blocks));
    }
    const std::vector<std::string> translated = names.of_model(name);
    if (translated.empty()) {
      fail(fmt::format("expected a tensor of a {} model, found one that has no place in it",
                       architecture.model_type));
    }
    if (name.ends_with(".bias") && !computes_bias(model.config, part_of_block(name))) {
      fail(fmt::format("expected no bias here in a {} model", architecture.model_type));
    }
    GgufWeight weight{stored.format, stored.shape, stored.bytes};
    if (architecture.is_shifted(name)) weight.offset = architecture.norm_offset;
    if (translated.front().ends_with(".shared_expert_gate.weight") && weight.shape.size() == 1) {
      weight.shape.insert(weight.shape.begin(), 1);
    }
    if (const auto heads = interleaved.find(part_of_block(name)); heads != interleaved.end()) {
      weight.interleaved_heads = heads->second;
      const int64_t rows = stored.shape.front();
      if (rows % heads->second != 0 || rows / heads->second % 2 != 0) {
        fail(fmt::format("expected rows of {} heads of even size, found {} rows", heads->second,
                         rows));
      }
    }
    std::vector<GgufWeight> parts = {weight};
    if (translated.size() > 1) parts = parts_of(weight, names.row_shares(name), translated, fail);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!model.tensors.emplace(translated[i], std::move(parts[i])).second) {
        fail("expected a tensor once, found it twice");
      }
    }
  }
  return model;
}

GgufModel open_gguf_model(const std::filesystem::path& path) {
  return as_hugging_face(GgufFile::open(path));
}

EncodedTensor load_encoded(const GgufWeight& weight, std::shared_ptr<const void> file) {
  const bool blocks = weight.shape.size() == 1 && weight.format->values > 1;
  if (weight.offset != 0.0 || (weight.interleaved_heads != 0 && blocks)) {
    const auto decoded =
        std::make_shared<const torch::Tensor>(load_tensor(weight).to(torch::kFloat32));
    const auto* data = static_cast<const char*>(decoded->const_data_ptr());
    return {quant::find_format("F32"), weight.shape, {data, decoded->nbytes()}, decoded};
  }
  if (weight.interleaved_heads == 0) {
    return {weight.format, weight.shape, weight.bytes, std::move(file)};
  }
  const int64_t rows = weight.shape.front(), heads = weight.interleaved_heads;
  const auto ordered = std::make_shared<const std::string>(
      transposed_rows(weight.bytes, rows, heads, rows / heads / 2));
  return {weight.format, weight.shape, *ordered, ordered};
}

std::string interleaved_rows(std::string_view bytes, int64_t rows, int64_t heads) {
  TORCH_CHECK_VALUE(heads > 0 && rows % (2 * heads) == 0, "[gguf] expected rows of ", heads,
                    " heads of even size, got ", rows, " rows");
  return transposed_rows(bytes, rows, heads, 2);
}

torch::Tensor load_tensor(const GgufWeight& weight) {
  torch::Tensor tensor = decode_tensor(weight.bytes, *weight.format, weight.shape);
  if (weight.offset != 0.0) tensor = tensor.to(torch::kFloat32).sub(weight.offset);
  if (weight.interleaved_heads == 0) return tensor;
  const int64_t heads = weight.interleaved_heads;
  const int64_t half = weight.shape.front() / heads / 2;
  return tensor
      .view({heads, half, 2, -1})  // [head, i, j, column]
      .transpose(1, 2)
      .reshape(weight.shape);
}

}  // namespace schmidt::io
