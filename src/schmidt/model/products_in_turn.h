#pragma once

#include <vector>

#include <torch/types.h>

#include "schmidt/model/projection.h"

namespace schmidt::model {

/// Products of one x with projections of one form and shape after each other, computed as a step of
/// a model computes them: on threads that stay awake where a DecodeEngine would. To be timed.
class ProductsInTurn {
 public:
  /// One projection or more.
  ProductsInTurn(std::vector<ProjectionPtr> projections, torch::ScalarType dtype);
  ~ProductsInTurn();

  /// x [rows, n] of the dtype.
  void run(const torch::Tensor& x);

 private:
  std::vector<ProjectionPtr> projections_;
  std::vector<kernels::TeamProductPtr>
      products_;  // of the projections; none where these are slower
};

}  // namespace schmidt::model
