#pragma once

#include <cstdint>
#include <functional>

#include <torch/types.h>

namespace schmidt::model {

/// Products with a matrix W [m, n] that is never in memory as a whole: some of its rows at a time
/// are turned into numbers.
struct TiledMatrix {
  int64_t rows = 0, columns = 0;
  /// Rows begin .. end - 1 as numbers [end - begin, n].
  std::function<torch::Tensor(int64_t begin, int64_t end)> decode;
};

/// x W^T, x [..., n] -> [..., m]. Not differentiable.
torch::Tensor tiled_product(const TiledMatrix& w, const torch::Tensor& x);

/// Calls `use` for one tile after another: rows begin .. begin + rows of the tile - 1.
void for_each_tile(const TiledMatrix& w,
                   const std::function<void(int64_t begin, const torch::Tensor& tile)>& use);

}  // namespace schmidt::model
