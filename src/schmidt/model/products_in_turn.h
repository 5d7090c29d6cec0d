#pragma once

#include <vector>

#include <torch/types.h>

#include "schmidt/model/projection.h"

namespace schmidt::model {

/// Products of one x with projections of one form and shape after each other, to be timed.
class ProductsInTurn {
 public:
  /// One projection or more. by_team: on threads that stay awake, as a DecodeEngine multiplies,
  /// where there is a way.
  ProductsInTurn(std::vector<ProjectionPtr> projections, torch::ScalarType dtype, bool by_team);

  /// x [rows, n] of the dtype.
  void run(const torch::Tensor& x);

 private:
  std::vector<ProjectionPtr> projections_;
  std::vector<kernels::TeamProductPtr>
      products_;  // of the projections; none where it is not by a team
};

}  // namespace schmidt::model
