#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/dist/exchange.h"

namespace schmidt::heal {

/// Where a parameter lies in a flat vector of all.
struct Extent {
  int64_t offset, numel;
};

/// Whole parameters whose gradients are exchanged at once.
struct Bucket {
  int64_t begin, end;            ///< in the flat vector
  size_t first, last;            ///< parameters [first, last)
  std::vector<int64_t> offsets;  ///< rank r owns [offsets[r], offsets[r + 1]), from `begin`
};

/// A run of one parameter's elements that this rank owns.
struct Piece {
  size_t parameter;
  int64_t begin, numel;  ///< in the flat vector
  int64_t place;         ///< its first element among all that are owned
};

/// Which elements of the trained parameters each rank's optimizer owns (ZeRO stage 1).
///
///   flat    | bucket B-1 | .. | bucket 1 | bucket 0 |    the order of the forward pass
///   owners   0011  2233    ..   0112 233   0 1 2  3
///
/// Every rank holds all parameters; the optimizer's state exists once, an N-th of it on
/// each of N ranks. Each bucket is cut evenly, so that its gradients can be summed at the
/// owners alone by one reduce-scatter, as soon as the backward pass has them: with the
/// gather of the updated parameters a step sends 2 (N - 1) / N of the vector, as much as
/// an all-reduce without sharding; all-reduce and gather would send half as much again.
/// Source: Rajbhandari et al. 2020, arXiv:1910.02054, sections 5.1 and 7.2.1.
class Sharding {
 public:
  /// Buckets are filled from the last parameter to the first, the order of the backward
  /// pass, until they hold `bucket_bytes` of float32.
  /// Throws c10::ValueError if the extents are not in ascending order and apart.
  Sharding(std::vector<Extent> parameters, int64_t bucket_bytes, int64_t rank, int64_t ranks);

  /// In the order of the backward pass.
  const std::vector<Bucket>& buckets() const { return buckets_; }
  const std::vector<Extent>& parameters() const { return parameters_; }

  const std::vector<Piece>& pieces() const { return pieces_; }
  int64_t owned() const { return owned_; }  ///< elements of all pieces

  /// flat [n] -> a copy of what is owned [owned], in the order of `place`.
  torch::Tensor take(const torch::Tensor& flat) const;

  /// Writes what is owned [owned] back into flat [n].
  void put(const torch::Tensor& owned, const torch::Tensor& flat) const;

  /// flat [n] becomes on every rank what the owners hold there: parameters after a step,
  /// state before it is saved. Any dtype. Throws dist::LostRank.
  void gather(dist::Exchange& exchange, const torch::Tensor& flat) const;

  /// sqrt of the sum of squares over all ranks' pieces of flat [n]: the norm of a gradient
  /// that was summed at its owners. Throws dist::LostRank.
  double norm(dist::Exchange& exchange, const torch::Tensor& flat) const;

 private:
  std::vector<Extent> parameters_;
  std::vector<Bucket> buckets_;
  std::vector<Piece> pieces_;
  int64_t owned_ = 0;
};

}  // namespace schmidt::heal
