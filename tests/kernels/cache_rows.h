#pragma once

#include <torch/types.h>

#include "schmidt/kernels/cache_block.h"

namespace schmidt::kernels::test {

/// A row of blocks that hold nothing yet.
inline CacheRow empty_row(const CacheShape& shape, int64_t blocks) {
  CacheRow row;
  for (int64_t i = 0; i < blocks; ++i) row.push_back(make_cache_block(shape, torch::kCPU));
  return row;
}

/// A row that holds keys and values [n, kv_heads, d] in one layer, in as few blocks as that takes.
inline CacheRow row_of(const torch::Tensor& keys, const torch::Tensor& values, int64_t tokens,
                       torch::ScalarType dtype) {
  const int64_t n = keys.size(0);
  const CacheRow row =
      empty_row({1, keys.size(1), tokens, keys.size(2), dtype}, (n + tokens - 1) / tokens);
  store_in_cache(keys, values, row, 0, 0);
  return row;
}

}  // namespace schmidt::kernels::test
