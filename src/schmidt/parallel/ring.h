#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <torch/types.h>

#include "schmidt/parallel/transport.h"

namespace schmidt::parallel {

/// Collectives by messages between neighbours on a ring of N ranks. A flat tensor is cut
/// into one slice for each rank; every rank sends a slice to the right and receives one
/// from the left at a time, so that no rank sends more than another:
///
///   reduce_scatter   N - 1 turns; a slice gathers its sum on its way around to its owner
///   all_gather       N - 1 turns; the owners' slices go around
///
/// Each sends (N - 1) / N of the tensor. Every sum is formed at one place, in the order of
/// the ring: equal on all ranks to the last bit, and from run to run.
/// Source: Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69(2).
struct Ring {
  Transport& transport;
  std::function<void(Message&)> wait;    ///< returns when the message is done
  std::function<void(int64_t)> account;  ///< told the bytes of every message that is sent
  std::vector<std::byte>& scratch;       ///< must outlive messages that nobody waits for
};

/// N + 1 offsets that cut n elements into slices whose sizes differ by one at most.
std::vector<int64_t> even_offsets(int64_t n, int64_t ranks);

/// flat [n] contiguous; slice r is [offsets[r], offsets[r + 1]). The own slice becomes its
/// sum over ranks; the others hold partial sums then, of no use.
/// float32, float64, int64.
void reduce_scatter(const Ring& ring, const torch::Tensor& flat, std::span<const int64_t> offsets);

/// Every slice becomes what its owner holds there. Any dtype.
void all_gather(const Ring& ring, const torch::Tensor& flat, std::span<const int64_t> offsets);

/// flat [n] becomes what `root` holds there, along a binomial tree. Any dtype.
void broadcast(const Ring& ring, const torch::Tensor& flat, int64_t root);

/// The bytes of a contiguous tensor.
std::span<std::byte> bytes_of(const torch::Tensor& tensor);

}  // namespace schmidt::parallel
