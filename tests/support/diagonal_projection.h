#pragma once

#include <string>

#include "schmidt/model/layer_kind.h"

namespace schmidt::test {

/// Layer kind "diagonal": W = diag(d) + A B, a diagonal beside a low rank, which stands for any
/// kind that somebody adds to the library.
///
///   {"kind": "diagonal", "rank": r}
///     NAME.diagonal [min(m, n)], NAME.left [m, r], NAME.right [r, n], NAME.bias [m]
extern const model::LayerKind kDiagonalKind;

/// The diagonal of W and the best low rank of what is left.
model::StoredWeight diagonal_weight(const std::string& name, const torch::Tensor& w, int64_t rank);

}  // namespace schmidt::test
