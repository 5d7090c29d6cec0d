#pragma once

namespace schmidt::model {

/// What a cache holds keys and values in.
enum class CacheType {
  kModel,     ///< the dtype that the model runs in: nothing is rounded
  kBfloat16,  ///< rounded to bfloat16
  kInt8,      ///< codes of 8 bits with a scale for each token and head (kernels/cache_block.h)
};

}  // namespace schmidt::model
