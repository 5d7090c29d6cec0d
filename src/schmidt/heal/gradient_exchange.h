#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/sharding.h"
#include "schmidt/parallel/exchange.h"

namespace schmidt::heal {

/// Sums gradients over ranks while the backward pass goes on: a bucket sets out as soon as
/// it and those before it are complete, in the same order on every rank.
///
///   backward  | block L-1 | block L-2 | .. | block 0 |
///   exchange              | bucket 0  | bucket 1 |  .. | bucket B-1 |
///
/// For each step: `ready` from the hook of each parameter in the last of the accumulated
/// backward passes, then `finish`.
/// Source: Li et al. 2020, arXiv:2006.15704, section 3.2.
class GradientExchange {
 public:
  /// flat [n] float32: all gradients, laid out as `sharding` says. Both it and `exchange`
  /// must outlive this.
  GradientExchange(parallel::Exchange& exchange, const Sharding& sharding, torch::Tensor flat);

  /// Parameter i has its gradient of this step; nothing writes there before `finish`.
  /// Throws c10::ValueError at the second call in a step.
  void ready(size_t i);

  /// Waits until what each rank owns is summed over ranks there. What other ranks own is
  /// of no use then. Parameters that were not ready are exchanged as they are: zero where
  /// no gradient came to be. Throws parallel::LostRank.
  void finish();

 private:
  void start_ready_buckets();
  void start(const Bucket& bucket);

  parallel::Exchange& exchange_;
  const Sharding& sharding_;
  torch::Tensor flat_;
  std::vector<size_t> bucket_of_;  // by parameter
  std::vector<bool> ready_;        // by parameter
  std::vector<size_t> missing_;    // parameters of each bucket that are not ready
  size_t started_ = 0;             // buckets
  std::vector<parallel::Ticket> tickets_;
};

}  // namespace schmidt::heal
