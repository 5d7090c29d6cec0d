#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/activations.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/model/projection.h"
#include "schmidt/quant/integer_format.h"

namespace schmidt::model {

/// A matrix W [m, n] in integers of few bits (quant::IntegerFormat). Products with few rows read
/// the integers as they are (kernels/quantized_gemv), all others unpack them by tiles of rows; W
/// never exists as a whole.
class QuantizedMatrix {
 public:
  /// codes and zeros hold whole numbers below 2^bits.
  /// codes uint8 [m, n]; scales floating [m, n / group], finite and not 0; zeros uint8 of their
  /// size, undefined where the format is symmetric. Throws c10::ValueError if they do not fit.
  static QuantizedMatrix pack(const quant::IntegerFormat& format, const torch::Tensor& codes,
                              const torch::Tensor& scales, const torch::Tensor& zeros);

  /// packed int32 [m, words of a row]; scales and zeros as above. `activations` is what products
  /// with few rows compute with where no gradient is recorded.
  QuantizedMatrix(const quant::IntegerFormat& format, torch::Tensor packed, torch::Tensor scales,
                  torch::Tensor zeros,
                  kernels::Activations activations = kernels::Activations::kExact);

  int64_t rows() const { return packed_.size(0); }
  int64_t columns() const { return scales_.size(1) * format_.group; }
  const quant::IntegerFormat& format() const { return format_; }

  torch::Tensor codes() const;  ///< uint8 [m, n]
  const torch::Tensor& packed() const { return packed_; }
  const torch::Tensor& scales() const { return scales_; }
  const torch::Tensor& zeros() const { return zeros_; }
  kernels::Activations activations() const { return activations_; }

  /// Rows begin .. end, [end - begin, n].
  torch::Tensor decode(int64_t begin, int64_t end, torch::ScalarType dtype) const;
  torch::Tensor decode(torch::ScalarType dtype) const { return decode(0, rows(), dtype); }

  /// Rows of these numbers, int64 [...] -> [..., n].
  torch::Tensor gather(const torch::Tensor& ids, torch::ScalarType dtype) const;

  /// x W^T, x [..., n] -> [..., m] in x's dtype. Differentiable with respect to x and the scales.
  torch::Tensor multiply(const torch::Tensor& x) const;

  /// The same plus bias [m], as Projection::team_product.
  kernels::TeamProductPtr team_product(const std::optional<torch::Tensor>& bias,
                                       torch::ScalarType dtype) const;

 private:
  quant::IntegerFormat format_;
  torch::Tensor packed_;  // int32 [m, words]
  torch::Tensor scales_;  // [m, groups]
  torch::Tensor zeros_;   // uint8 [m, groups], or undefined
  kernels::Activations activations_;
};

/// A format as a backward pass keeps it, and back.
std::vector<int64_t> as_numbers(const quant::IntegerFormat& format);
quant::IntegerFormat format_of(const std::vector<int64_t>& numbers);

/// The codes of packed rows, int64 [m, n], by operations of LibTorch alone: for any device, and
/// what the faster way on the CPU is compared with.
torch::Tensor codes_by_library(const torch::Tensor& packed, int64_t n, int bits);

/// Codes below 2^bits [m, n] as packed rows, int32 [m, words].
torch::Tensor packed_codes(const torch::Tensor& codes, int bits);

/// uint8 [m, groups] as the file holds it, int32 [words of a column, groups], and back.
torch::Tensor packed_zeros(const torch::Tensor& zeros, int bits);
torch::Tensor unpacked_zeros(const torch::Tensor& packed, int64_t m, int bits);

}  // namespace schmidt::model
