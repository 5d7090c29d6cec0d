#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/example.h"

namespace schmidt::heal {

/// Rows of packed examples. Attention has to stay within a segment; positions need not
/// start anew at each, since rotary positions are relative.
struct Batch {
  torch::Tensor ids;       ///< int64 [rows, context]; padding holds 0
  torch::Tensor segments;  ///< int64 [rows, context]: which example of its row a token is of,
                           ///< from 0; -1 at padding
  torch::Tensor targets;   ///< int64 [rows, context]: the token to be predicted after this one,
                           ///< in the same example; -100 where nothing is to be learned (last
                           ///< token of an example, untrained next token, padding)

  int64_t trained() const;  ///< targets that count
  int64_t tokens() const;   ///< tokens that are no padding
};

/// The target that the loss leaves out, as in torch::nn::functional::cross_entropy.
inline constexpr int64_t kNoTarget = -100;

/// Examples beside each other in rows of `context` tokens. Throws c10::ValueError for a
/// row that does not fit, or none.
Batch make_batch(const std::vector<std::vector<Example>>& rows, int64_t context);

/// Which of `sizes` fill a row of `context` tokens: the first, then again and again the
/// largest that still fits (best fit). Ascending. Throws c10::ValueError if there is none
/// or the first does not fit.
std::vector<size_t> best_fit(const std::vector<int64_t>& sizes, int64_t context);

}  // namespace schmidt::heal
