#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "schmidt/model/projection.h"
#include "schmidt/quant/nf4.h"

namespace schmidt::model {

/// The parts of a matrix W [m, n] in NF4 (quant/nf4.h) as they are stored.
struct Nf4Parts {
  int64_t rows = 0, columns = 0;
  int64_t block = quant::kNf4Block;
  torch::Tensor codes;   ///< uint8 [ceil(m n / 2), 1]
  torch::Tensor absmax;  ///< [blocks]: float32, or uint8 with double quantization

  // With double quantization alone:
  torch::Tensor nested_absmax;  ///< float32 [ceil(blocks / nested_block)]
  torch::Tensor nested_map;     ///< float32 [256], what the codes of `absmax` stand for
  int64_t nested_block = quant::kNestedBlock;
  double offset = 0.0;
};

/// Whether magnitudes are rounded as well.
enum class Nf4Magnitudes { kFloat32, kDoubleQuantized };

/// W to the nearest levels, blocks of 64; finite, on any device.
Nf4Parts nf4_encoded(const torch::Tensor& w,
                     Nf4Magnitudes magnitudes = Nf4Magnitudes::kDoubleQuantized);

/// A matrix in NF4. Products of a few rows are those of kernels/nf4_linear; others unpack it by
/// tiles of rows, never as a whole.
class Nf4Matrix {
 public:
  /// Throws c10::ValueError if sizes or types do not fit each other.
  explicit Nf4Matrix(Nf4Parts parts);

  int64_t rows() const { return parts_.rows; }
  int64_t columns() const { return parts_.columns; }
  bool is_double_quantized() const { return parts_.nested_absmax.defined(); }
  const Nf4Parts& parts() const { return parts_; }

  torch::Tensor magnitudes() const;  ///< float32 [blocks]

  /// Rows begin .. end, [end - begin, n].
  torch::Tensor decode(int64_t begin, int64_t end, torch::ScalarType dtype) const;
  torch::Tensor decode(torch::ScalarType dtype) const { return decode(0, rows(), dtype); }

  /// x W^T, x [..., n] -> [..., m] in x's dtype. Differentiable with respect to x.
  torch::Tensor multiply(const torch::Tensor& x) const;

  /// The same as Projection::team_product.
  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const;

 private:
  Nf4Parts parts_;
};

/// Rows begin .. end, float32, by operations of LibTorch alone: for any device, and what the faster
/// way on the CPU is compared with.
torch::Tensor nf4_decoded_by_library(const Nf4Matrix& w, int64_t begin, int64_t end);

}  // namespace schmidt::model
