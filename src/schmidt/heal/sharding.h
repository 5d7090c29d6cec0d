#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/adamw.h"
#include "schmidt/parallel/exchange.h"

namespace schmidt::heal {

/// Whole parameters whose gradients are exchanged at once.
struct Bucket {
  Slice slice;                   ///< of the vector of all
  size_t first, last;            ///< parameters [first, last)
  std::vector<int64_t> offsets;  ///< rank r owns [offsets[r], offsets[r + 1]), from slice.begin
};

/// Which elements of the trained parameters each rank's optimizer owns (ZeRO stage 1).
///
///   values    | bucket B-1 | .. | bucket 1 | bucket 0 |    in the order of the forward pass
///   owners      0  1  2  3       0  1  2  3  0 1 2  3
///
/// Every rank holds all parameters; the optimizer's state exists once, an N-th of it on
/// each of N ranks. Each bucket is cut evenly, so that its gradients can be summed at the
/// owners alone by one reduce-scatter, as soon as the backward pass has them: with the
/// gather of the updated parameters a step sends 2 (N - 1) / N of the vector, as much as
/// an all-reduce without sharding; all-reduce and gather would send half as much again.
/// Source: Rajbhandari et al. 2020, arXiv:1910.02054, sections 5.1 and 7.2.1.
class Sharding {
 public:
  static constexpr int64_t kBucketBytes = int64_t{25} << 20;

  /// parameters: where each lies in a float32 vector of all. Buckets are filled from the
  /// last parameter to the first, the order of the backward pass, up to `bucket_bytes`.
  /// Throws c10::ValueError if parameters are not in ascending order and apart.
  Sharding(std::vector<Slice> parameters, int64_t rank, int64_t ranks,
           int64_t bucket_bytes = kBucketBytes);

  const std::vector<Slice>& parameters() const { return parameters_; }
  /// In the order of the backward pass.
  const std::vector<Bucket>& buckets() const { return buckets_; }

  /// What this rank owns, ascending: one slice of each bucket.
  const std::vector<Slice>& owned() const { return owned_; }
  int64_t owned_numel() const;

  /// Every rank's part [owned_numel], one slice after the other -> bucket b of it, whole on
  /// every rank. Throws parallel::LostRank.
  torch::Tensor whole_bucket(parallel::Exchange& exchange, const torch::Tensor& part,
                             size_t b) const;

  /// Bucket b, whole -> what is owned of it, at its place in `part` [owned_numel].
  void take_bucket(const torch::Tensor& whole, size_t b, const torch::Tensor& part) const;

  /// flat [n] becomes on every rank what the owners hold there, as the parameters do after
  /// a step. Any dtype. Throws parallel::LostRank.
  void gather(parallel::Exchange& exchange, const torch::Tensor& flat) const;

  /// sqrt of the sum of squares of all ranks' slices of flat [n]: the norm of a gradient
  /// that was summed at its owners. Throws parallel::LostRank.
  /// exchange: may hold more ranks, which own other parameters.
  double norm(parallel::Exchange& exchange, const torch::Tensor& flat) const;

 private:
  Slice own_of(size_t b) const;  // within bucket b

  std::vector<Slice> parameters_;
  int64_t rank_;
  std::vector<Bucket> buckets_;
  std::vector<Slice> owned_;
  std::vector<Slice> places_;  // of each bucket's slice among what is owned
};

}  // namespace schmidt::heal
