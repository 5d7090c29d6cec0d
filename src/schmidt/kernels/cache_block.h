#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <torch/types.h>

namespace schmidt::kernels {

/// Keys and values of neighbouring tokens of a sequence, in every layer of a model. A number of a
/// key has those of the other tokens beside it, so that the scores of many tokens are summed in the
/// lanes of registers; a value has its own numbers together.
///
/// float32 and bfloat16 hold numbers rounded to the nearest. int8 holds codes c that stand for
/// c * scale, with scale = max |x| / 127 over the d numbers of a token in one head: each number
/// has an error of at most max |x| / 254. NaN or infinity makes all d of them NaN.
struct CacheBlock {
  torch::Tensor keys;          ///< [layers, kv_heads, d, tokens]
  torch::Tensor values;        ///< [layers, kv_heads, tokens, d]
  torch::Tensor key_scales;    ///< float32 [layers, kv_heads, tokens]; undefined but for int8
  torch::Tensor value_scales;  ///< the same
};

struct CacheShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t tokens = 0;  ///< of one block
  int64_t d = 0;
  torch::ScalarType dtype = torch::kFloat32;  ///< float32, bfloat16 or int8

  /// Of one block.
  int64_t bytes() const;
};

/// The blocks of a sequence, whose token i lies in block i / tokens. Sequences that begin alike
/// may share blocks.
using CacheRow = std::vector<std::shared_ptr<CacheBlock>>;

/// A block that holds nothing yet. Throws c10::ValueError for another dtype.
std::shared_ptr<CacheBlock> make_cache_block(const CacheShape& shape, torch::Device device);

/// The same block in memory of its own.
std::shared_ptr<CacheBlock> copy_of(const CacheBlock& block);

/// Writes keys and values [n, kv_heads, d] of one layer to positions first .. first + n - 1 of a
/// row. Throws c10::ValueError if they do not fit its blocks.
void store_in_cache(const torch::Tensor& keys, const torch::Tensor& values, const CacheRow& row,
                    int64_t layer, int64_t first);

/// The same by ATen operations only, on any device.
void store_in_cache_reference(const torch::Tensor& keys, const torch::Tensor& values,
                              const CacheRow& row, int64_t layer, int64_t first);

struct KeysAndValues {
  torch::Tensor keys;    ///< [n, kv_heads, d]
  torch::Tensor values;  ///< [n, kv_heads, d]
};

/// What positions first .. first + n - 1 of a row hold in one layer, packed, in `dtype`.
/// Throws c10::ValueError if the row has no blocks of them.
KeysAndValues gather_from_cache(const CacheRow& row, int64_t layer, int64_t first, int64_t n,
                                torch::ScalarType dtype);

}  // namespace schmidt::kernels
