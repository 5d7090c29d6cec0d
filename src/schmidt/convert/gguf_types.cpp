#include "schmidt/convert/gguf_types.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include <ATen/ops/isfinite.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_names.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::convert {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

double bits_of(const quant::Format& format) {
  return 8.0 * static_cast<double>(format.bytes) / static_cast<double>(format.values);
}

/// The written format of the nearest number of bits for rows of `columns`.
const quant::Format& nearest_type(const quant::Format& type, int64_t columns) {
  const quant::Format* nearest = nullptr;
  const auto distance = [&](const quant::Format& f) {
    return std::abs(bits_of(f) - bits_of(type));
  };
  for (const quant::Format& format : quant::formats()) {
    if (columns % format.values != 0) continue;
    if (nearest == nullptr || distance(format) < distance(*nearest)) nearest = &format;
  }
  TORCH_INTERNAL_ASSERT(nearest != nullptr);  // plain numbers fit everywhere
  return *nearest;
}

/// llama.cpp's llama_ftype.
struct FileType {
  std::string_view format;
  int64_t id;
};
constexpr FileType kFileTypes[] = {
    {"F32", 0},   {"F16", 1},   {"Q4_0", 2},  {"Q4_1", 3},  {"Q8_0", 7},  {"Q5_0", 8}, {"Q5_1", 9},
    {"Q2_K", 10}, {"Q3_K", 11}, {"Q4_K", 14}, {"Q5_K", 16}, {"Q6_K", 18}, {"BF16", 32}};

}  // namespace

std::vector<std::string> written_gguf_types() {
  std::vector<std::string> names;
  for (const quant::Format& format : quant::formats()) {
    names.push_back(lower(format.name));
  }
  return names;
}

const quant::Format& written_gguf_type(const std::string& name) {
  for (const quant::Format& format : quant::formats()) {
    if (lower(format.name) == lower(name)) return format;
  }
  TORCH_CHECK_VALUE(false, "[export] expected one of the types ",
                    fmt::format("{}", fmt::join(written_gguf_types(), ", ")), ", got ", name);
}

const quant::Format& gguf_type_for(const std::string& name, const std::vector<int64_t>& shape,
                                   const quant::Format& type) {
  if (shape.size() < 2) return *quant::find_format("F32");
  TORCH_CHECK_VALUE(shape.back() % type.values == 0, "[export] expected rows of a multiple of ",
                    type.values, " values for ", lower(type.name), ", got ", shape.back(), " in ",
                    name, "; the nearest type that fits is ",
                    lower(nearest_type(type, shape.back()).name));
  return type;
}

bool is_router(std::string_view gguf_name) {
  return io::part_of_block(gguf_name).starts_with("ffn_gate_inp");
}

void check_finite(const torch::Tensor& weight, const std::string& name,
                  const std::filesystem::path& model) {
  if (at::isfinite(weight).all().item<bool>()) return;
  throw FormatError(model, name, "holds NaN or infinite weights");
}

std::string encode_weight(const torch::Tensor& weight, const quant::Format& type,
                          const std::string& name, const std::filesystem::path& model) {
  check_finite(weight, name, model);
  return io::encode_tensor(weight, type, name);
}

void add_file_type(std::map<std::string, io::GgufValue>& keys,
                   const std::vector<io::GgufTensorSpec>& specs) {
  std::map<const quant::Format*, uint64_t> bytes;
  for (const io::GgufTensorSpec& spec : specs) {
    if (spec.shape.size() > 1) bytes[spec.format] += io::gguf_tensor_bytes(spec);
  }
  if (bytes.empty()) return;
  const quant::Format& most =
      *std::ranges::max_element(bytes, {}, [](const auto& b) { return b.second; })->first;
  const auto* type = std::ranges::find(kFileTypes, most.name, &FileType::format);
  if (type != std::end(kFileTypes)) keys["general.file_type"] = {type->id};
  if (most.values > 1) keys["general.quantization_version"] = {int64_t{2}};
}

}  // namespace schmidt::convert
