#include "schmidt/io/gguf_model.h"

#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
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
    if (name == kGgufRopeFactors) continue;
    const std::filesystem::path& path = model.file.path();
    const std::optional<std::string> translated = hugging_face_name(name);
    if (!translated) {
      throw FormatError(path, "tensor " + name,
                        fmt::format("expected a tensor of a dense {} model, found one that has no "
                                    "place in it",
                                    architecture.name));
    }
    GgufWeight weight{&stored, 0};
    if (const auto heads = interleaved.find(part_of_block(name)); heads != interleaved.end()) {
      weight.interleaved_heads = heads->second;
      const int64_t rows = stored.shape.front();
      if (rows % heads->second != 0 || rows / heads->second % 2 != 0) {
        throw FormatError(path, "tensor " + name,
                          fmt::format("expected rows of {} heads of even size, found {} rows",
                                      heads->second, rows));
      }
    }
    if (!model.tensors.emplace(*translated, weight).second) {
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
  const int64_t rows = stored.shape.front(), heads = weight.interleaved_heads;
  const auto ordered = std::make_shared<const std::string>(
      transposed_rows(stored.bytes, rows, heads, rows / heads / 2));
  return {stored.format, stored.shape, *ordered, ordered};
}

std::string interleaved_rows(std::string_view bytes, int64_t rows, int64_t heads) {
  TORCH_CHECK_VALUE(heads > 0 && rows % (2 * heads) == 0, "[gguf] expected rows of ", heads,
                    " heads of even size, got ", rows, " rows");
  return transposed_rows(bytes, rows, heads, 2);
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
