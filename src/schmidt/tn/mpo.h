#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/contraction_plan.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

/// A matrix W [m, n] held as a chain of K cores (Matrix Product Operator).
///
///          n_1        n_2               n_K      input legs
///           |          |                 |
///      1 --C_1-- r_1 --C_2-- ... r_K-1 --C_K-- 1   bonds
///           |          |                 |
///          m_1        m_2               m_K      output legs
///
/// Core k is [r_{k-1}, m_k, n_k, r_k], r_0 = r_K = 1, m = prod m_k, n = prod n_k.
/// Site 1 is the most significant digit of a row or column index.
class Mpo {
 public:
  /// Throws c10::ValueError if there is no core, a core is not rank 4, neighbouring
  /// bonds differ, the outer bonds are not 1, a dimension is 0, or cores disagree in
  /// dtype or device.
  explicit Mpo(std::vector<torch::Tensor> cores);

  const std::vector<torch::Tensor>& cores() const { return cores_; }
  SiteShape shape() const;
  std::vector<int64_t> out_dims() const;  ///< m_1 .. m_K
  std::vector<int64_t> in_dims() const;   ///< n_1 .. n_K
  std::vector<int64_t> bonds() const;     ///< r_1 .. r_{K-1}
  int64_t rows() const;                   ///< m
  int64_t cols() const;                   ///< n
  int64_t numel() const;                  ///< scalars stored, all cores

  /// x [..., n] -> x W^T [..., m]. Differentiable. The chain is contracted in the
  /// order with the fewest operations for this number of rows of x; W itself is
  /// never formed unless `options` ask for it.
  /// Throws c10::ValueError if x's last dimension, dtype or device do not fit.
  torch::Tensor apply(const torch::Tensor& x, const ContractionOptions& options = {}) const;

  /// W [m, n]. Allocates m * n scalars: tests and export only.
  torch::Tensor to_dense() const;

 private:
  std::vector<torch::Tensor> cores_;
};

}  // namespace schmidt::tn
