#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/cache_block.h"
#include "schmidt/kernels/cache_memory.h"

namespace schmidt::kernels {

/// Which cached positions each of n query tokens attends to.
struct CachedQueries {
  std::vector<int64_t> rows;       ///< [n] the cache's row that the token belongs to
  std::vector<int64_t> positions;  ///< [n] the token's own position, the last one it sees
  std::optional<int64_t> window;   ///< how many of the latest positions it sees; none: all
};

/// softmax(q K^T scale) V of few tokens over one layer of a cache, softmax and sums in
/// float32; with a softcap c a score s is c tanh(s / c). Query head h reads key head
/// h / (heads / kv_heads).
/// q [n, heads, d], in whatever type the cache is -> [n, heads, d].
/// Not differentiable. Cost: one pass over the keys and values seen, per query head;
/// long runs of queries are better served by blocked attention.
/// Throws c10::ValueError if shapes do not fit or a row or position is not in the cache.
torch::Tensor cached_attention(const torch::Tensor& q, const std::vector<CacheRow>& rows,
                               int64_t layer, const CachedQueries& queries, double scale,
                               std::optional<double> softcap = std::nullopt);

/// One query head of one token, which sees its own position last.
struct HeadQuery {
  int64_t layer = 0, row = 0, position = 0, kv_head = 0;
  std::optional<int64_t> window = {};  ///< as in CachedQueries
  float scale = 1.0F;                  ///< of scores
  float softcap = 0.0F;                ///< of scores; 0: none
};

/// The attention of a head, q [d] -> out [d], on this thread. `numbers` [position + 1 + 2 d] is for
/// its use.
void attend_head(const CacheMemory& memory, const HeadQuery& query, const float* q, float* out,
                 float* numbers);
void attend_head(const CacheMemory& memory, const HeadQuery& query, const c10::BFloat16* q,
                 c10::BFloat16* out, float* numbers);

/// cached_attention by ATen operations only, token by token.
torch::Tensor cached_attention_reference(const torch::Tensor& q, const std::vector<CacheRow>& rows,
                                         int64_t layer, const CachedQueries& queries, double scale,
                                         std::optional<double> softcap = std::nullopt);

}  // namespace schmidt::kernels
