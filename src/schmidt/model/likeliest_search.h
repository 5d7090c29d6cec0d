#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/config.h"
#include "schmidt/model/projection.h"
#include "schmidt/model/quantized_matrix.h"

namespace schmidt::model {

/// The likeliest tokens after some hidden states without most of their logits: maximum inner
/// product search over the rows of the output layer W [vocab, n], exact by bounds.
///
/// Beside W it holds Q, the same in int8, which takes half the bytes of bfloat16 to read. With h
/// rounded to int8 in blocks as p (kernels/quantized_gemv.h) an inner product is off by at most
///
///   |W_i h - Q_i p| <= |W_i - Q_i| |h| + |Q_i| |h - p|
///
/// and the tokens that could be the likeliest by these bounds are computed as all logits are: a few
/// of a vocabulary. The answer is that of all logits, up to the order in which a product sums.
class LikeliestSearch {
 public:
  /// Null where it does not pay: an output layer that is small, is no matrix of the model's dtype
  /// on the CPU, has no whole blocks of inputs, or is followed by a cap.
  static std::shared_ptr<const LikeliestSearch> make(const ModelConfig& config,
                                                     const ProjectionPtr& output);

  /// As many states as are asked for before Q is made, which takes as long as it saves on them.
  static constexpr int64_t kStatesBefore = 64;
  /// States at once for which the codes are the faster way.
  static constexpr int64_t kMostStates = 8;

  /// h [k, n], without NaN -> the id of the largest logit of each row, the first of equal ones,
  /// `excluded` ones left out. Nothing where all logits are the better way: before `kStatesBefore`
  /// states, for more than `kMostStates`, without memory for Q, or where bounds leave too many.
  /// Several threads may call it.
  std::optional<std::vector<int64_t>> find(const torch::Tensor& h,
                                           const std::vector<int64_t>& excluded) const;

  /// Bytes that a search reads less than a product with W: 0 before the first one.
  int64_t bytes_saved() const;

 private:
  struct Rounded {
    QuantizedMatrix codes;
    torch::Tensor errors;  ///< |W_i - Q_i|, float32 [vocab]
    torch::Tensor norms;   ///< |Q_i|, float32 [vocab]
  };

  LikeliestSearch(const ModelConfig& config, torch::Tensor weight);
  const Rounded* rounded(int64_t states) const;

  ModelConfig config_;
  torch::Tensor weight_;  // [vocab, n]

  mutable std::mutex mutex_;  // of both below
  mutable int64_t asked_ = 0;
  mutable std::optional<Rounded> rounded_;
};

}  // namespace schmidt::model
