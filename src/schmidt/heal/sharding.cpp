#include "schmidt/heal/sharding.h"

#include <cmath>
#include <ranges>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>

#include "schmidt/dist/ring.h"

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
    buckets.push_back({slice, first, last, dist::even_offsets(slice.size(), ranks)});
    last = first;
  }
  return buckets;
}

torch::Tensor part_of(const torch::Tensor& flat, const Slice& slice) {
  return flat.narrow(0, slice.begin, slice.size());
}

}  // namespace

Sharding::Sharding(std::vector<Slice> parameters, int64_t rank, int64_t ranks, int64_t bucket_bytes)
    : parameters_(std::move(parameters)) {
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
  for (const Bucket& bucket : buckets_ | std::views::reverse) {
    const auto r = static_cast<size_t>(rank);
    const int64_t begin = bucket.slice.begin;
    owned_.push_back({begin + bucket.offsets[r], begin + bucket.offsets[r + 1]});
  }
}

int64_t Sharding::owned_numel() const {
  int64_t sum = 0;
  for (const Slice& slice : owned_) sum += slice.size();
  return sum;
}

torch::Tensor Sharding::take(const torch::Tensor& flat) const {
  torch::Tensor part = at::empty({owned_numel()}, flat.options());
  int64_t place = 0;
  for (const Slice& slice : owned_) {
    part.narrow(0, place, slice.size()).copy_(part_of(flat, slice));
    place += slice.size();
  }
  return part;
}

torch::Tensor Sharding::assemble(dist::Exchange& exchange, const torch::Tensor& part,
                                 int64_t n) const {
  torch::Tensor flat = at::zeros({n}, part.options());
  int64_t place = 0;
  for (const Slice& slice : owned_) {
    part_of(flat, slice).copy_(part.narrow(0, place, slice.size()));
    place += slice.size();
  }
  gather(exchange, flat);
  return flat;
}

void Sharding::gather(dist::Exchange& exchange, const torch::Tensor& flat) const {
  std::vector<dist::Ticket> tickets;
  for (const Bucket& b : buckets_) {
    tickets.push_back(exchange.start_gather_slices(part_of(flat, b.slice), b.offsets));
  }
  for (const dist::Ticket& ticket : tickets) exchange.wait(ticket);
}

double Sharding::norm(dist::Exchange& exchange, const torch::Tensor& flat) const {
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
