#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/cached_attention.h"
#include "schmidt/model/kv_cache.h"

namespace schmidt::model {

/// The valid tokens of one step over a cache, all rows' tokens one after another:
/// padding takes part in no product.
struct StepPlan {
  /// Neighbouring tokens of one row.
  struct Span {
    int64_t row = 0;
    int64_t begin = 0;   ///< first token, an index into the packed tokens
    int64_t length = 0;  ///< tokens
    int64_t past = 0;    ///< tokens of the row that the cache held before
  };
  torch::Tensor ids;        ///< int64 [n], packed
  std::vector<Span> spans;  ///< rows without a token have none
  RopeTable rope;           ///< [n, r / 2], of each packed token

  // How their attention is computed: each span in the way that suits its length.

  /// Tokens of short spans, as in decoding, one by one: of which row and position they are, and
  /// their places among the packed tokens, int64 [m] on the device.
  kernels::CachedQueries queries;
  torch::Tensor single_tokens;      ///< undefined where they are all tokens
  std::vector<Span> beginnings;     ///< long spans of rows that held nothing
  std::vector<Span> continuations;  ///< long spans of rows that held something
};

/// ids [batch, t] right-padded, lengths [batch] in [0, t]: how many are valid.
/// Throws c10::ValueError if they do not fit each other or the cache.
StepPlan plan_step(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                   const KvCache& cache);

}  // namespace schmidt::model
