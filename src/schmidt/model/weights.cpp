#include "schmidt/model/weights.h"

#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"

namespace schmidt::model {
namespace {

void check_options(const LoadOptions& options) {
  TORCH_CHECK_VALUE(options.dtype == torch::kFloat32 || options.dtype == torch::kBFloat16 ||
                        options.dtype == torch::kFloat64,
                    "[load] expected dtype float32, bfloat16 or float64, got ", options.dtype);
}

/// Numbers that are looked at in one step: sums of 16-bit numbers take memory for them in float32.
constexpr int64_t kPiece = 1 << 18;

// A finite sum proves finite terms and costs one pass; only a sum that is not
// finite, which large terms can cause too, needs a look at every element.
bool all_finite(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.flatten();
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const torch::Tensor piece = flat.slice(0, begin, begin + kPiece);
    if (std::isfinite(piece.sum(torch::kFloat32).item<float>())) continue;
    if (!at::isfinite(piece).all().item<bool>()) return false;
  }
  return true;
}

}  // namespace

Weights::Weights(const io::Checkpoint& checkpoint, const LoadOptions& options)
    : path_(checkpoint.path()), options_(options), checkpoint_(checkpoint) {
  check_options(options);
}

Weights::Weights(std::map<std::string, torch::Tensor> tensors, std::filesystem::path path,
                 const LoadOptions& options)
    : path_(std::move(path)), options_(options), held_(std::move(tensors)) {
  check_options(options);
}

std::optional<std::vector<int64_t>> Weights::shape_of(const std::string& name) const {
  if (checkpoint_) {
    const auto found = checkpoint_->tensors().find(name);
    return found == checkpoint_->tensors().end() ? std::nullopt
                                                 : std::optional(found->second.shape);
  }
  const auto found = held_.find(name);
  return found == held_.end() ? std::nullopt : std::optional(found->second.sizes().vec());
}

std::vector<std::string> Weights::names() const {
  std::vector<std::string> names;
  if (checkpoint_) {
    for (const auto& [name, info] : checkpoint_->tensors()) names.push_back(name);
  }
  for (const auto& [name, tensor] : held_) names.push_back(name);
  return names;
}

torch::Tensor Weights::load(const std::string& name) const {
  if (!checkpoint_) return held_.at(name);
  if (!options_.device.is_meta()) return checkpoint_->load(name);
  const io::TensorInfo& info = checkpoint_->tensors().at(name);
  return at::empty(info.shape, at::TensorOptions(options_.device).dtype(info.dtype));
}

void Weights::require(const std::string& name, torch::IntArrayRef expected) const {
  const auto found = shape_of(name);
  if (!found) {
    throw FormatError(path_, name,
                      fmt::format("expected a tensor [{}], found none", fmt::join(expected, ", ")));
  }
  if (expected != torch::IntArrayRef(*found)) {
    throw FormatError(path_, name,
                      fmt::format("expected shape [{}], found [{}]", fmt::join(expected, ", "),
                                  fmt::join(*found, ", ")));
  }
}

torch::Tensor Weights::load_checked(const std::string& name, torch::IntArrayRef expected) const {
  require(name, expected);
  const torch::Tensor tensor = load(name);
  if (!tensor.is_floating_point()) {
    throw FormatError(
        path_, name,
        fmt::format("expected a floating type, found {}", c10::toString(tensor.scalar_type())));
  }
  if (!tensor.is_meta() && !all_finite(tensor))
    throw FormatError(path_, name, "holds NaN or infinite weights");
  return tensor;
}

torch::Tensor Weights::read(const std::string& name, torch::IntArrayRef expected) const {
  torch::Tensor stored = load_checked(name, expected);
  torch::Tensor converted = stored.to(options_.device, options_.dtype).contiguous();
  stored.reset();
  // Tensors given in memory stay the giver's; those of a file are nobody else's.
  const bool shared =
      converted.use_count() > 1 || (converted.has_storage() && converted.storage().use_count() > 1);
  return shared ? converted.clone() : converted;
}

torch::Tensor Weights::read_indices(const std::string& name, torch::IntArrayRef expected) const {
  require(name, expected);
  const torch::Tensor tensor = load(name);
  if (tensor.scalar_type() != torch::kInt32) {
    throw FormatError(
        path_, name,
        fmt::format("expected indices of type I32, found {}", c10::toString(tensor.scalar_type())));
  }
  if (tensor.is_meta()) return tensor.to(torch::kInt64);
  return tensor.to(torch::kCPU, torch::kInt64).contiguous();
}

torch::Tensor Weights::read_stored(const std::string& name, torch::IntArrayRef expected,
                                   std::optional<torch::ScalarType> dtype) const {
  if (!dtype) return load_checked(name, expected).to(options_.device).contiguous();
  require(name, expected);
  const torch::Tensor tensor = load(name);
  if (tensor.scalar_type() != *dtype) {
    throw FormatError(path_, name,
                      fmt::format("expected type {}, found {}", c10::toString(*dtype),
                                  c10::toString(tensor.scalar_type())));
  }
  return tensor.to(options_.device).contiguous();
}

void Weights::read_into(const std::string& name, const torch::Tensor& destination) const {
  destination.copy_(load_checked(name, destination.sizes()));
}

}  // namespace schmidt::model
