#include "schmidt/model/likeliest_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "schmidt/base/memory.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/quantized_gemv.h"
#include "schmidt/kernels/quantized_linear.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/vocabulary_scale.h"

namespace schmidt::model {
namespace {

constexpr int64_t kLeastNumbers = 4 << 20;  // of W: a smaller one is read from a cache
constexpr int64_t kMostCandidates = 512;
constexpr int64_t kCopiesLeft = 4;  // of Q's size, that memory has to have room for

/// Columns that share a scale: a multiple of the blocks of h that do, without which products with
/// int8 are slow.
int64_t group_size(int64_t n) { return n % 64 == 0 ? 64 : kernels::kInt8Block; }

/// Of sums in float32, whose terms may be 16 times |Q_i| |h| where codes lie far from zero.
constexpr double kSumRounding = 1e-4;

/// How far logits may move from the sums that they are made of: a few roundings to their type.
double logit_rounding(torch::ScalarType dtype) {
  return dtype == torch::kBFloat16 ? 1.0 / 64 : 1e-5;
}

/// |h| and a bound of |h - p|, h [n].
std::pair<double, double> norm_and_rounding(const float* h, int64_t n) {
  double square = 0, error = 0;
  for (int64_t begin = 0; begin < n; begin += kernels::kInt8Block) {
    const int64_t end = std::min(begin + kernels::kInt8Block, n);
    double largest = 0;
    for (int64_t j = begin; j < end; ++j) {
      const double value = h[j];
      square += value * value;
      largest = std::max(largest, std::abs(value));
    }
    const double most = largest / 254 + 0x1p-120;
    error += static_cast<double>(end - begin) * most * most;
  }
  return {std::sqrt(square), std::sqrt(error)};
}

/// Tokens whose inner product may be the largest, ascending. `products` [vocab] are changed to
/// what they may be at most.
std::vector<int64_t> candidates(float* products, const float* errors, const float* norms,
                                int64_t vocab, double h_norm, double h_error, double slack) {
  const auto by_error = static_cast<float>(h_norm);
  const auto by_norm = static_cast<float>(h_error + kSumRounding * h_norm);
  float best = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < vocab; ++i) {
    const float bound = errors[i] * by_error + norms[i] * by_norm;
    best = std::max(best, products[i] - bound);
    products[i] += bound;
  }
  const float least = best - static_cast<float>(slack) * std::abs(best);
  std::vector<int64_t> found;
  for (int64_t i = 0; i < vocab; ++i) {
    if (products[i] >= least) found.push_back(i);
  }
  return found;
}

/// Rows begin .. end - 1 of W in int8, and what is lost of each.
template <typename T>
void round_rows(const T* w, int64_t begin, int64_t end, int64_t n, int64_t group, uint8_t* codes,
                float* scales, float* errors, float* norms) {
  constexpr float kLargest = 127;
  const int64_t groups = n / group;
  for (int64_t i = begin; i < end; ++i) {
    double error = 0, square = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const T* const from = w + i * n + g * group;
      uint8_t* const to = codes + i * n + g * group;
      float largest = 0;
      for (int64_t j = 0; j < group; ++j) {
        largest = std::max(largest, std::abs(static_cast<float>(from[j])));
      }
      const float scale = std::max(largest / kLargest, 0x1p-120F);
      scales[i * groups + g] = scale;
      const float inverse = 1 / scale;
      float part_error = 0, part_square = 0;
      for (int64_t j = 0; j < group; ++j) {
        const auto value = static_cast<float>(from[j]);
        const float code = std::nearbyint(std::clamp(value * inverse, -kLargest, kLargest));
        to[j] = static_cast<uint8_t>(static_cast<int>(code) + 128);
        const float rounded = code * scale;
        part_error += (value - rounded) * (value - rounded);
        part_square += rounded * rounded;
      }
      error += part_error;
      square += part_square;
    }
    errors[i] = static_cast<float>(std::sqrt(error) * (1 + kSumRounding));
    norms[i] = static_cast<float>(std::sqrt(square) * (1 + kSumRounding));
  }
}

}  // namespace

std::shared_ptr<const LikeliestSearch> LikeliestSearch::make(const ModelConfig& config,
                                                             const ProjectionPtr& output) {
  const auto* const dense = dynamic_cast<const DenseProjection*>(output.get());
  if (dense == nullptr || config.logit_softcap || !(config.logit_scale > 0)) return nullptr;
  const torch::Tensor weight = dense->weight();
  const bool fits = dense->parameters().size() == 1 && kernels::fast_types({&weight}) &&
                    weight.is_contiguous() && weight.numel() >= kLeastNumbers &&
                    weight.size(1) % kernels::kInt8Block == 0 && kernels::gemv_is_fast();
  if (!fits) return nullptr;
  return std::shared_ptr<const LikeliestSearch>(new LikeliestSearch(config, weight));
}

LikeliestSearch::LikeliestSearch(const ModelConfig& config, torch::Tensor weight)
    : config_(config), weight_(std::move(weight)) {}

/// Q once it pays; null before, and where there is no memory for it.
const LikeliestSearch::Rounded* LikeliestSearch::rounded(int64_t states) const {
  const std::lock_guard lock(mutex_);
  if (rounded_) return &*rounded_;
  asked_ += states;
  if (asked_ < kStatesBefore || available_bytes() / kCopiesLeft < weight_.numel()) return nullptr;
  const int64_t vocab = weight_.size(0), n = weight_.size(1), group = group_size(n);
  const auto floats = at::TensorOptions(torch::kFloat32);
  const torch::Tensor codes = at::empty({vocab, n}, at::TensorOptions(torch::kUInt8));
  const torch::Tensor scales = at::empty({vocab, n / group}, floats);
  const torch::Tensor errors = at::empty({vocab}, floats), norms = at::empty({vocab}, floats);
  kernels::with_fast_type(weight_.scalar_type(), [&]<typename T>(T* /*type*/) {
    at::parallel_for(
        0, vocab, std::max<int64_t>(1, kernels::kGrain / n), [&](int64_t begin, int64_t end) {
          round_rows(weight_.const_data_ptr<T>(), begin, end, n, group,
                     codes.mutable_data_ptr<uint8_t>(), scales.mutable_data_ptr<float>(),
                     errors.mutable_data_ptr<float>(), norms.mutable_data_ptr<float>());
        });
  });
  const quant::IntegerFormat format{.bits = 8, .group = group, .symmetric = true};
  // Four codes of 8 bits are a word as they lie.
  rounded_.emplace(
      Rounded{QuantizedMatrix(format, codes.view(torch::kInt32), scales, {}), errors, norms});
  return &*rounded_;
}

std::optional<std::vector<int64_t>> LikeliestSearch::find(
    const torch::Tensor& h, const std::vector<int64_t>& excluded) const {
  const int64_t states = h.size(0), n = h.size(1), vocab = weight_.size(0);
  if (states < 1 || states > kMostStates || h.scalar_type() != weight_.scalar_type()) return {};
  const Rounded* const q = rounded(states);
  if (q == nullptr) return {};
  const torch::Tensor x = h.to(torch::kFloat32).contiguous();
  const torch::Tensor products = at::empty({states, vocab}, x.options());
  kernels::quantized_gemv(
      kernels::quantized_weight(q->codes.format(), q->codes.packed(), q->codes.scales(), {}),
      x.const_data_ptr<float>(), states, /*int8_activations=*/true,
      {products.mutable_data_ptr<float>(), vocab});
  constexpr int64_t kNone = -1;
  std::vector<int64_t> likeliest(static_cast<size_t>(states), kNone);
  const auto find_one = [&](int64_t row) {
    float* const y = products.mutable_data_ptr<float>() + row * vocab;
    for (const int64_t id : excluded) y[id] = -std::numeric_limits<float>::infinity();
    const auto [norm, error] = norm_and_rounding(x.const_data_ptr<float>() + row * n, n);
    if (!std::isfinite(norm)) return kNone;
    const std::vector<int64_t> ids =
        candidates(y, q->errors.const_data_ptr<float>(), q->norms.const_data_ptr<float>(), vocab,
                   norm, error, logit_rounding(h.scalar_type()));
    if (ids.empty() || std::cmp_greater(ids.size(), kMostCandidates)) return kNone;
    const torch::Tensor rows = weight_.index_select(0, at::tensor(ids, at::kLong));
    const torch::Tensor logits =
        logits_of(config_, kernels::linear(h.narrow(0, row, 1), rows)).to(torch::kFloat32);
    const float* const values = logits.const_data_ptr<float>();
    const auto largest = std::max_element(values, values + ids.size());
    return std::isfinite(*largest) ? ids[static_cast<size_t>(largest - values)] : kNone;
  };
  at::parallel_for(0, states, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) likeliest[row] = find_one(row);
  });
  if (std::ranges::find(likeliest, kNone) != likeliest.end()) return {};
  return likeliest;
}

int64_t LikeliestSearch::bytes_saved() const {
  const std::lock_guard lock(mutex_);
  if (!rounded_) return 0;
  const QuantizedMatrix& q = rounded_->codes;
  const size_t read = q.packed().nbytes() + q.scales().nbytes() + rounded_->errors.nbytes() +
                      rounded_->norms.nbytes();
  return static_cast<int64_t>(weight_.nbytes()) - static_cast<int64_t>(read);
}

}  // namespace schmidt::model
