#include "schmidt/heal/sharding.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include "schmidt/parallel/ring.h"

namespace schmidt::heal {
namespace {

std::vector<Bucket> fill_buckets(const std::vector<Slice>& parameters, int64_t bytes,
                                 int64_t ranks) {
  std::vector<Bucket> buckets;
  size_t last = parameters.size();
  while (last > 0) {
    size_t first = last - 1;
    const int64_t end = parameters[first].end;
    const auto fits = [&](const Slice& s) { return (end - s.begin) * 4 <= bytes; };
    while (first > 0 && fits(parameters[first - 1])) --first;
    const Slice slice = {parameters[first].begin, end};
    buckets.push_back({slice, first, last, parallel::even_offsets(slice.size(), ranks)});
    last = first;
  }
  return buckets;
}

torch::Tensor part_of(const torch::Tensor& flat, const Slice& slice) {
  return flat.narrow(0, slice.begin, slice.size());
}

}  // namespace

Sharding::Sharding(std::vector<Slice> parameters, int64_t rank, int64_t ranks, int64_t bucket_bytes)
    : parameters_(std::move(parameters)), rank_(rank) {
  int64_t end = 0;
  for (const Slice& s : parameters_) {
    TORCH_CHECK_VALUE(s.begin >= end && s.size() >= 0,
                      "[sharding] expected a parameter at or beyond ", end, ", got one from ",
                      s.begin, " to ", s.end);
    end = s.end;
  }
  TORCH_CHECK_VALUE(rank >= 0 && rank < ranks, "[sharding] expected a rank below ", ranks, ", got ",
                    rank);
  buckets_ = fill_buckets(parameters_, bucket_bytes, ranks);
  places_.resize(buckets_.size());
  int64_t place = 0;
  for (size_t b = buckets_.size(); b-- > 0;) {
    const int64_t begin = buckets_[b].slice.begin;
    const Slice own = own_of(b);
    owned_.push_back({begin + own.begin, begin + own.end});
    places_[b] = {place, place + own.size()};
    place += own.size();
  }
}

Slice Sharding::own_of(size_t b) const {
  const auto r = static_cast<size_t>(rank_);
  return {buckets_[b].offsets[r], buckets_[b].offsets[r + 1]};
}

int64_t Sharding::owned_numel() const {
  int64_t sum = 0;
  for (const Slice& slice : owned_) sum += slice.size();
  return sum;
}

torch::Tensor Sharding::whole_bucket(parallel::Exchange& exchange, const torch::Tensor& part,
                                     size_t b) const {
  const Bucket& bucket = buckets_[b];
  torch::Tensor whole = at::empty({bucket.slice.size()}, part.options());
  part_of(whole, own_of(b)).copy_(part_of(part, places_[b]));
  exchange.gather_slices(whole, bucket.offsets);
  return whole;
}

void Sharding::take_bucket(const torch::Tensor& whole, size_t b, const torch::Tensor& part) const {
  part_of(part, places_[b]).copy_(part_of(whole, own_of(b)));
}

void Sharding::gather(parallel::Exchange& exchange, const torch::Tensor& flat) const {
  std::vector<parallel::Ticket> tickets;
  for (const Bucket& b : buckets_) {
    tickets.push_back(exchange.start_gather_slices(part_of(flat, b.slice), b.offsets));
  }
  for (const parallel::Ticket& ticket : tickets) exchange.wait(ticket);
}

double Sharding::norm(parallel::Exchange& exchange, const torch::Tensor& flat) const {
  const at::NoGradGuard no_grad;
  double squares = 0;
  for (const Slice& slice : owned_) {
    const auto norm = part_of(flat, slice).norm().item<double>();
    squares += norm * norm;
  }
  const torch::Tensor total = at::scalar_tensor(squares, torch::kFloat64);
  exchange.sum(total);
  return std::sqrt(total.item<double>());
}

}  // namespace schmidt::heal
