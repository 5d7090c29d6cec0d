#include "schmidt/io/scaled_tensor.h"

#include <algorithm>
#include <set>
#include <utility>

#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::string, HfTensor>;

constexpr std::string_view kScaleEnds[] = {"_scale_inv", "_scale"};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_fp8(torch::ScalarType dtype) {
  return dtype == torch::kFloat8_e4m3fn || dtype == torch::kFloat8_e5m2 ||
         dtype == torch::kFloat8_e8m0fnu;
}

// Scales are wider than what they scale, or powers of two.
bool may_be_scale(torch::ScalarType dtype) {
  return dtype == torch::kFloat8_e8m0fnu || (isFloatingType(dtype) && !is_fp8(dtype));
}

// A tensor as a matrix [m, n]; a scalar is [1, 1], a vector [m, 1].
std::pair<int64_t, int64_t> matrix_sizes(const std::vector<int64_t>& shape) {
  int64_t rows = 1, columns = 1;
  for (size_t i = 0; i < shape.size(); ++i) (i == 0 ? rows : columns) *= shape[i];
  return {rows, columns};
}

// With its sizes within m and n, so that two ways to say the same are equal.
ScaleBlock within(const ScaleBlock& block, int64_t m, int64_t n) {
  const auto size = [](int64_t asked, int64_t whole) {
    return std::max<int64_t>(1, asked == 0 ? whole : std::min(asked, whole));
  };
  return {size(block.rows, m), size(block.columns, n)};
}

// [] and [1] say the same as [1, 1], [m] the same as [m, 1].
std::vector<int64_t> without_trailing_ones(std::vector<int64_t> shape) {
  while (!shape.empty() && shape.back() == 1) shape.pop_back();
  return shape;
}

ScaleBlock block_of(const std::string& name, const HfTensor& scale, const HfTensor& tensor,
                    const WeightQuantization& quantization, const fs::path& folder) {
  const auto [m, n] = matrix_sizes(tensor.shape);
  std::optional<ScaleBlock> found;
  std::vector<std::string> expected;
  for (const ScaleBlock& declared : quantization.blocks) {
    const ScaleBlock block = within(declared, m, n);
    const std::vector<int64_t> grid = {ceil_div(m, block.rows), ceil_div(n, block.columns)};
    expected.push_back(fmt::format("[{}]", fmt::join(grid, ", ")));
    if (without_trailing_ones(scale.shape) != without_trailing_ones(grid)) continue;
    if (found && (found->rows != block.rows || found->columns != block.columns)) {
      throw FormatError(folder, name,
                        fmt::format("expected scales of one block size, found two that fit: {} x "
                                    "{} and {} x {}",
                                    found->rows, found->columns, block.rows, block.columns));
    }
    found = block;
  }
  if (found) return *found;
  expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
  throw FormatError(folder, name,
                    fmt::format("expected scales of shape {} for a tensor [{}], found [{}]",
                                fmt::join(expected, " or "), fmt::join(tensor.shape, ", "),
                                fmt::join(scale.shape, ", ")));
}

// The tensor that a scale belongs to by its name; empty for a scale of activations.
std::string scaled_by(const std::string& name, const Tensors& tensors) {
  for (const std::string_view end : kScaleEnds) {
    if (!name.ends_with(end)) continue;
    std::string base = name.substr(0, name.size() - end.size());
    if (tensors.contains(base) || base.ends_with(".weight")) return base;
  }
  return "";
}

// Scales of activations, of the cache of keys and values, and zero points.
bool is_left_out(const std::string& name) {
  return name.ends_with("_scale") || name.ends_with("_scale_inv") || name.ends_with("_scale_ub") ||
         name.ends_with("_zero_point");
}

void refuse_unread_formats(const Tensors& tensors, const fs::path& folder) {
  for (const auto& [name, tensor] : tensors) {
    if (const std::string_view format = unread_format_of(name); !format.empty()) {
      throw FormatError(folder, name,
                        fmt::format("expected plain weights or FP8 with its scales, found a tensor "
                                    "of {}, which is not read; start from the original model",
                                    format));
    }
  }
}

// FP8 is symmetric: some writers store its zero point all the same.
void check_zero_point(const std::string& name, const HfTensor& tensor, const fs::path& folder) {
  if (std::ranges::any_of(tensor.bytes, [](char byte) { return byte != 0; })) {
    throw FormatError(folder, name, "expected zero points of 0 beside FP8, found others");
  }
}

void attach(const std::string& name, const HfTensor& scale, HfTensor& tensor,
            const std::string& scaled, const WeightQuantization& quantization,
            const fs::path& folder) {
  if (!is_fp8(tensor.dtype->dtype)) {
    throw FormatError(folder, name,
                      fmt::format("expected scales of an FP8 tensor, found {} stored as {}", scaled,
                                  tensor.dtype->name));
  }
  if (!may_be_scale(scale.dtype->dtype)) {
    throw FormatError(
        folder, name,
        fmt::format("expected scales of a floating type, found {}", scale.dtype->name));
  }
  if (tensor.scales) {
    throw FormatError(folder, scaled, "expected one tensor of scales, found two");
  }
  tensor.scales = {scale.dtype, block_of(name, scale, tensor, quantization, folder), scale.bytes};
}

/// Throws FormatError for what looks like the scales of an FP8 tensor under a name of another
/// format.
void refuse_unread_scales(const Tensors& tensors, const fs::path& folder) {
  for (const auto& [name, tensor] : tensors) {
    if (!is_fp8(tensor.dtype->dtype) || tensor.scales) continue;
    const std::string layer = name.substr(0, name.rfind('.') + 1);
    for (auto other = tensors.lower_bound(layer);
         other != tensors.end() && other->first.starts_with(layer); ++other) {
      const std::string_view rest = std::string_view(other->first).substr(layer.size());
      const bool scales = rest.find("scal") != rest.npos || rest.find("amax") != rest.npos;
      if (scales && !is_left_out(other->first)) {
        throw FormatError(folder, other->first,
                          fmt::format("expected the scales of {0} as {0}_scale or {0}_scale_inv, "
                                      "found these, whose format is not supported",
                                      name));
      }
    }
  }
}

}  // namespace

void attach_scales(Tensors& tensors, const WeightQuantization& quantization,
                   const fs::path& folder) {
  refuse_unread_formats(tensors, folder);
  std::set<std::string> taken;
  for (const auto& [name, tensor] : tensors) {
    const std::string scaled = scaled_by(name, tensors);
    if (scaled.empty()) continue;
    const auto found = tensors.find(scaled);
    if (found == tensors.end()) {
      throw FormatError(
          folder, name,
          fmt::format("expected the tensor {} beside its scales, found none", scaled));
    }
    attach(name, tensor, found->second, scaled, quantization, folder);
    taken.insert(name);
  }
  const auto stored_in_fp8 = [](const auto& entry) { return is_fp8(entry.second.dtype->dtype); };
  const auto left_out = [](const auto& entry) { return is_left_out(entry.first); };
  const bool scaled = quantization.declared || (std::ranges::any_of(tensors, stored_in_fp8) &&
                                                std::ranges::any_of(tensors, left_out));
  refuse_unread_scales(tensors, folder);
  if (!scaled) return;
  for (const auto& [name, tensor] : tensors) {
    if (is_left_out(name)) {
      if (name.ends_with(".weight_zero_point")) check_zero_point(name, tensor, folder);
      taken.insert(name);
    } else if (is_fp8(tensor.dtype->dtype) && !tensor.scales) {
      throw FormatError(folder, name,
                        fmt::format("expected its scales, {0}_scale_inv or {0}_scale, beside an "
                                    "FP8 tensor, found neither",
                                    name));
    }
  }
  for (const std::string& name : taken) tensors.erase(name);
}

torch::ScalarType loaded_dtype(const HfTensor& tensor) {
  return is_fp8(tensor.dtype->dtype) ? torch::kFloat32 : tensor.dtype->dtype;
}

torch::Tensor load_tensor(const HfTensor& tensor) {
  const torch::Tensor stored =
      copy_tensor(tensor.bytes, tensor.dtype->dtype, tensor.shape, Pages::kGivenBack);
  if (!is_fp8(tensor.dtype->dtype)) return stored;
  torch::Tensor loaded = stored.to(torch::kFloat32);
  if (!tensor.scales || loaded.numel() == 0) return loaded;

  const auto [m, n] = matrix_sizes(tensor.shape);
  const auto [rows, columns] = tensor.scales->block;
  const int64_t down = ceil_div(m, rows), across = ceil_div(n, columns);
  torch::Tensor scales =
      copy_tensor(tensor.scales->bytes, tensor.scales->dtype->dtype, {down, across})
          .to(torch::kFloat32);
  if (across > 1) scales = scales.repeat_interleave(columns, 1).narrow(1, 0, n);
  const torch::Tensor matrix = loaded.view({m, n});
  if (rows == 1) {
    matrix.mul_(scales);
  } else {
    for (int64_t i = 0; i < down; ++i) {
      const int64_t begin = i * rows;
      matrix.narrow(0, begin, std::min(rows, m - begin)).mul_(scales[i]);
    }
  }
  return loaded;
}

}  // namespace schmidt::io
