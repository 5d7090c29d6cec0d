#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/team_product.h"
#include "schmidt/model/named_tensor.h"

namespace schmidt::model {

/// y = x W^T + b for the stacked outputs of one or several layers that read the
/// same input, whatever form W is held in. Model code knows no other form.
class Projection {
 public:
  virtual ~Projection() = default;

  /// x [..., n] -> [..., sum of m_i], in x's dtype. Differentiable with respect to
  /// x and to those of `parameters` that ask for a gradient.
  virtual torch::Tensor apply(const torch::Tensor& x) const = 0;

  /// Rows of W for ids int64 [...]: an embedding's [..., n]. Differentiable.
  virtual torch::Tensor rows(const torch::Tensor& ids) const;

  virtual int64_t out_features() const = 0;  ///< sum of m_i

  /// The same product for a few rows by a team of threads (kernels/team_product.h), in `dtype`.
  /// Reads the projection's memory, which it does not keep. Null where there is none.
  virtual kernels::TeamProductPtr team_product(torch::ScalarType dtype) const;

  /// What training may change, under the names of a checkpoint. Leaf tensors: a caller may
  /// set requires_grad and write to them in place.
  virtual std::vector<NamedTensor> parameters() const = 0;

  /// All that is stored: the parameters, and indices or codes that training leaves alone.
  virtual std::vector<NamedTensor> tensors() const { return parameters(); }

  /// W [sum of m_i, n], whatever form it is held in. Allocates it.
  virtual torch::Tensor weight() const = 0;
};

using ProjectionPtr = std::shared_ptr<const Projection>;

/// Those of each, of which some may be null.
std::vector<kernels::TeamProductPtr> team_products(std::span<const ProjectionPtr> projections,
                                                   torch::ScalarType dtype);

/// Several projections of one input as one: outputs stand in the order given.
/// A single one is returned as it is.
/// Throws c10::ValueError if there is none.
ProjectionPtr concatenate(std::vector<ProjectionPtr> parts);

}  // namespace schmidt::model
