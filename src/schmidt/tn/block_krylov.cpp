#include "schmidt/tn/block_krylov.h"

#include <cmath>
#include <limits>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/processor.h"

namespace schmidt::tn {
namespace {

/// Below this multiple of the rank no answer can be expected.
constexpr double kFirstCheck = 1.3;

constexpr int64_t kProbes = 64;

torch::Tensor orthonormal(const torch::Tensor& columns) {
  return std::get<0>(at::linalg_qr(columns));
}

/// Products for directions alone, which need no more than a few digits, in bfloat16 where
/// that is the faster.
class RoughProduct {
 public:
  explicit RoughProduct(const torch::Tensor& a)
      : a_(a.scalar_type() == at::kFloat && a.is_cpu() && kernels::multiplies_bfloat16(a.device())
               ? a.to(at::kBFloat16)
               : a) {}

  torch::Tensor times(const torch::Tensor& columns) const {
    return at::mm(a_, columns.to(a_.scalar_type())).to(columns.scalar_type());
  }

 private:
  torch::Tensor a_;
};

/// Of a trace.
struct Estimate {
  double mean, deviation;
};

/// The growing Krylov space of C = W G W^T, and C restricted to it.
class KrylovSpace {
 public:
  KrylovSpace(const WeightedMatrix& matrix, int64_t block, int64_t largest)
      : matrix_(matrix),
        rough_(matrix.w),
        basis_(at::empty({largest, matrix.w.size(0)}, matrix.w.options())),
        projected_(at::empty({largest, matrix.w.size(1)}, matrix.w.options())),
        restricted_(at::zeros({largest, largest}, matrix.w.options())) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{20240229});
    const auto normal = [&](int64_t rows, int64_t columns) {
      return at::randn({rows, columns}, generator, at::TensorOptions(at::kFloat))
          .to(matrix.w.options());
    };
    weighted_ = times_metric(normal(matrix.w.size(1), block));
    probes_ = normal(matrix.w.size(0), kProbes).sign_();  // signs vary less than normal numbers
    const torch::Tensor seen = at::mm(matrix.w.t(), probes_);
    weighted_probes_ = times_metric(seen);
    probe_energies_ = (seen * weighted_probes_).sum(0, false, at::kDouble);
  }

  /// Takes the next block in and restricts C to it.
  void grow() {
    const torch::Tensor next = orthonormal(next_directions());  // [m, b]
    const int64_t begin = size_, end = size_ + next.size(1);
    basis_.slice(0, begin, end).copy_(next.t());
    const torch::Tensor projected = at::mm(matrix_.w.t(), next);  // [n, b]
    projected_.slice(0, begin, end).copy_(projected.t());
    size_ = end;
    weighted_ = times_metric(projected);
    overlap_ = at::mm(projected_.slice(0, 0, size_), weighted_);  // V^T C times the block
    restricted_.slice(0, 0, size_).slice(1, begin, end).copy_(overlap_);
    restricted_.slice(1, 0, size_).slice(0, begin, end).copy_(overlap_.t());
  }

  int64_t size() const { return size_; }

  /// Trace of C within the space.
  double energy_inside() const { return restricted().diagonal().sum(at::kDouble).item<double>(); }

  /// Trace of C outside of the space: p^T C p of each probe without its part inside.
  Estimate energy_outside() const {
    const torch::Tensor inside = at::mm(basis_.slice(0, 0, size_), probes_);
    const torch::Tensor image = at::mm(projected_.slice(0, 0, size_), weighted_probes_);
    const torch::Tensor twice = image.mul_(2).sub_(at::mm(restricted(), inside));
    const torch::Tensor energies = probe_energies_ - (inside * twice).sum(0, false, at::kDouble);
    return {energies.mean().item<double>(),
            energies.std().item<double>() / std::sqrt(static_cast<double>(kProbes))};
  }

  /// Sum of the `rank` largest eigenvalues.
  double energy(int64_t rank) const {
    return at::linalg_eigvalsh(restricted()).slice(0, size_ - rank).sum(at::kDouble).item<double>();
  }

  LeadingSpace leading(int64_t rank, const Estimate& outside) const {
    const torch::Tensor c = restricted();
    const torch::Tensor vectors =
        std::get<1>(at::linalg_eigh(c)).slice(1, size_ - rank).flip(1).contiguous();
    // A Rayleigh quotient is good to the square of the vectors' rounding.
    const torch::Tensor exact = vectors.to(at::kDouble);
    const double energy = (at::mm(c.to(at::kDouble), exact) * exact).sum().item<double>() *
                          static_cast<double>(rank) / exact.square().sum().item<double>();
    return {at::mm(basis_.slice(0, 0, size_).t(), vectors),
            at::mm(vectors.t(), projected_.slice(0, 0, size_)), energy,
            energy_inside() - energy + outside.mean, outside.deviation};
  }

 private:
  /// C times the last block, without what lies in the space already.
  torch::Tensor next_directions() const {
    torch::Tensor image = rough_.times(weighted_);
    if (size_ == 0) return image;
    const torch::Tensor basis = basis_.slice(0, 0, size_);
    image.sub_(at::mm(basis.t(), overlap_));
    image.sub_(at::mm(basis.t(), at::mm(basis, image)));  // what rounding left
    return image;
  }

  torch::Tensor restricted() const { return restricted_.slice(0, 0, size_).slice(1, 0, size_); }

  torch::Tensor times_metric(const torch::Tensor& columns) const {
    return matrix_.g.defined() ? at::mm(matrix_.g, columns) : columns;
  }

  const WeightedMatrix& matrix_;
  RoughProduct rough_;        // with W
  torch::Tensor basis_;       // V^T [size, m]
  torch::Tensor projected_;   // V^T W [size, n]
  torch::Tensor restricted_;  // V^T C V [size, size]
  torch::Tensor weighted_;    // G W^T times the last block [n, b]
  torch::Tensor overlap_;     // V^T C times the last block [size, b]
  int64_t size_ = 0;

  torch::Tensor probes_;           // P [m, kProbes]
  torch::Tensor weighted_probes_;  // G W^T P [n, kProbes]
  torch::Tensor probe_energies_;   // diagonal of P^T C P [kProbes]
};

/// What is to come if gains go on falling as the last one did.
double expected_gain(double last, double previous) {
  const double ratio = std::clamp(last / previous, 0.0, 0.95);
  return last * ratio / (1 - ratio);
}

}  // namespace

bool krylov_is_faster(int64_t rank, int64_t side) {
  return side >= 1024 && static_cast<double>(rank) < 0.35 * static_cast<double>(side);
}

std::optional<LeadingSpace> leading_space(const WeightedMatrix& matrix,
                                          const KrylovOptions& options) {
  const int64_t side = std::min(matrix.w.size(0), matrix.w.size(1)), rank = options.rank;
  TORCH_INTERNAL_ASSERT(rank >= 1 && rank < side);
  const int64_t block = std::min(side, std::max<int64_t>(16, rank / 4));
  const auto wanted = static_cast<int64_t>(options.largest_space * static_cast<double>(rank));
  const int64_t largest = std::min(side, std::max(wanted, rank + 8 * block));
  const double rounding = matrix.w.scalar_type() == at::kDouble
                              ? std::numeric_limits<double>::epsilon()
                              : std::numeric_limits<float>::epsilon();

  KrylovSpace space(matrix, block, largest);
  double energy = 0, gain = 0;
  int64_t checks = 0;
  while (space.size() + block <= largest) {
    space.grow();
    if (static_cast<double>(space.size()) < kFirstCheck * static_cast<double>(rank)) continue;
    const Estimate outside = space.energy_outside();
    const double found = space.energy(rank), inside = space.energy_inside();
    const double dropped = inside - found + outside.mean;
    if (!(dropped > 4e3 * rounding * (inside + outside.mean))) return std::nullopt;
    const double last_gain = found - energy;
    if (checks >= 2 && expected_gain(last_gain, gain) <= options.excess * dropped) {
      return space.leading(rank, outside);
    }
    energy = found;
    gain = last_gain;
    ++checks;
  }
  return std::nullopt;
}

}  // namespace schmidt::tn
