#include "schmidt/model/tiled_product.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/empty.h>

#include "schmidt/kernels/linear.h"

namespace schmidt::model {
namespace {

/// Numbers that a tile has at most, a few megabytes: products of smaller ones take a quarter
/// longer.
constexpr int64_t kTile = 1 << 20;

}  // namespace

void for_each_tile(const TiledMatrix& w,
                   const std::function<void(int64_t begin, const torch::Tensor& tile)>& use) {
  const int64_t step = std::max<int64_t>(kTile / std::max<int64_t>(1, w.columns), 8);
  for (int64_t begin = 0; begin < w.rows; begin += step) {
    use(begin, w.decode(begin, std::min(begin + step, w.rows)));
  }
}

torch::Tensor tiled_product(const TiledMatrix& w, const torch::Tensor& x) {
  const torch::Tensor flat = x.reshape({-1, w.columns});
  const torch::Tensor y = at::empty({flat.size(0), w.rows}, flat.options());
  for_each_tile(w, [&](int64_t begin, const torch::Tensor& tile) {
    kernels::linear_into(flat, tile, y.narrow(1, begin, tile.size(0)));
  });
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = w.rows;
  return y.view(sizes);
}

}  // namespace schmidt::model
