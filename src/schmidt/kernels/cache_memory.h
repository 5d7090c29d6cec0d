#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/cache_block.h"

namespace schmidt::kernels {

/// Where the blocks of a cache's rows lie in memory, looked up once for all layers of a step: for
/// loops without tensors.
class CacheMemory {
 public:
  /// A block's, of its first layer: [kv_heads, d, tokens], [kv_heads, tokens, d], [kv_heads,
  /// tokens]. Scales are null but for int8.
  struct Block {
    void* keys;
    void* values;
    float* key_scales;
    float* value_scales;
  };

  /// What was looked up before is forgotten, but not the memory that it took. Of the rows those
  /// that are `wanted`, each of one block or more. Throws c10::ValueError for one that is not
  /// there.
  void look_up(const std::vector<CacheRow>& rows, const std::vector<int64_t>& wanted);

  const Block* blocks(int64_t row) const { return rows_[static_cast<size_t>(row)].data(); }
  /// Positions that its blocks have.
  int64_t positions(int64_t row) const {
    return tokens * static_cast<int64_t>(rows_[static_cast<size_t>(row)].size());
  }

  int64_t kv_heads = 0, tokens = 0, d = 0;    ///< of every block
  torch::ScalarType dtype = torch::kFloat32;  ///< of keys and values

  /// From layer to layer.
  int64_t numbers_of_layer() const { return kv_heads * tokens * d; }
  int64_t scales_of_layer() const { return kv_heads * tokens; }

 private:
  std::vector<std::vector<Block>> rows_;
};

/// Writes one head's key and value [d] of a position in one layer, on this thread.
void store_head(const CacheMemory& memory, int64_t layer, int64_t row, int64_t position,
                int64_t kv_head, const float* key, const float* value);
void store_head(const CacheMemory& memory, int64_t layer, int64_t row, int64_t position,
                int64_t kv_head, const c10::BFloat16* key, const c10::BFloat16* value);

}  // namespace schmidt::kernels
