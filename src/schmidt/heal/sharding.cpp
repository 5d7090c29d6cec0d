#include "schmidt/heal/sharding.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Exception.h>

#include "schmidt/dist/ring.h"

namespace schmidt::heal {
namespace {

int64_t end_of(const Extent& e) { return e.offset + e.numel; }

std::vector<Bucket> fill_buckets(const std::vector<Extent>& parameters, int64_t bytes,
                                 int64_t ranks) {
  std::vector<Bucket> buckets;
  size_t last = parameters.size();
  while (last > 0) {
    size_t first = last - 1;
    const int64_t end = end_of(parameters[first]);
    const auto fits = [&](const Extent& e) { return (end - e.offset) * 4 <= bytes; };
    while (first > 0 && fits(parameters[first - 1])) --first;
    const int64_t begin = parameters[first].offset;
    buckets.push_back({begin, end, first, last, dist::even_offsets(end - begin, ranks)});
    last = first;
  }
  return buckets;
}

}  // namespace

Sharding::Sharding(std::vector<Extent> parameters, int64_t bucket_bytes, int64_t rank,
                   int64_t ranks)
    : parameters_(std::move(parameters)) {
  int64_t end = 0;
  for (const Extent& e : parameters_) {
    TORCH_CHECK_VALUE(e.offset >= end && e.numel >= 0,
                      "[sharding] expected a parameter at or beyond ", end, ", got one of ",
                      e.numel, " elements at ", e.offset);
    end = end_of(e);
  }
  TORCH_CHECK_VALUE(rank >= 0 && rank < ranks, "[sharding] expected a rank below ", ranks, ", got ",
                    rank);
  buckets_ = fill_buckets(parameters_, bucket_bytes, ranks);
  for (const Bucket& bucket : buckets_) {
    const auto r = static_cast<size_t>(rank);
    const int64_t low = bucket.begin + bucket.offsets[r];
    const int64_t high = bucket.begin + bucket.offsets[r + 1];
    for (size_t i = bucket.first; i < bucket.last; ++i) {
      const int64_t from = std::max(low, parameters_[i].offset);
      const int64_t to = std::min(high, end_of(parameters_[i]));
      if (from >= to) continue;
      pieces_.push_back({i, from, to - from, owned_});
      owned_ += to - from;
    }
  }
}

torch::Tensor Sharding::take(const torch::Tensor& flat) const {
  torch::Tensor all = at::empty({owned_}, flat.options());
  for (const Piece& p : pieces_) {
    all.narrow(0, p.place, p.numel).copy_(flat.narrow(0, p.begin, p.numel));
  }
  return all;
}

void Sharding::put(const torch::Tensor& owned, const torch::Tensor& flat) const {
  for (const Piece& p : pieces_) {
    flat.narrow(0, p.begin, p.numel).copy_(owned.narrow(0, p.place, p.numel));
  }
}

void Sharding::gather(dist::Exchange& exchange, const torch::Tensor& flat) const {
  std::vector<dist::Ticket> tickets;
  for (const Bucket& b : buckets_) {
    tickets.push_back(
        exchange.start_gather_slices(flat.narrow(0, b.begin, b.end - b.begin), b.offsets));
  }
  for (const dist::Ticket& ticket : tickets) exchange.wait(ticket);
}

double Sharding::norm(dist::Exchange& exchange, const torch::Tensor& flat) const {
  double squares = 0;
  for (const Piece& p : pieces_) {
    squares += flat.narrow(0, p.begin, p.numel).square().sum(torch::kFloat64).item<double>();
  }
  const torch::Tensor total = at::scalar_tensor(squares, torch::kFloat64);
  exchange.sum(total);
  return std::sqrt(total.item<double>());
}

}  // namespace schmidt::heal
