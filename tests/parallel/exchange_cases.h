#pragma once

#include <cmath>
#include <limits>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/ring.h"

namespace schmidt::test {

// What holds of an exchange, whatever carries its messages. Each is called by every rank.

/// Rank r's tensor, which every rank can make.
inline torch::Tensor tensor_of(int64_t r, int64_t n) {
  auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(1000 + r));
  return torch::randn({n}, generator, torch::kFloat32);
}

inline void expect_sum(const torch::Tensor& found, int64_t ranks, int64_t begin, int64_t n) {
  torch::Tensor sum = torch::zeros({n}, torch::kFloat64);
  torch::Tensor magnitude = torch::zeros({n}, torch::kFloat64);
  for (int64_t r = 0; r < ranks; ++r) {
    sum += tensor_of(r, n);
    magnitude += tensor_of(r, n).abs();
  }
  const int64_t count = found.numel();
  const torch::Tensor error = (found.to(torch::kFloat64) - sum.narrow(0, begin, count)).abs();
  const torch::Tensor bound = magnitude.narrow(0, begin, count) * static_cast<double>(ranks) *
                              std::numeric_limits<float>::epsilon();
  EXPECT_TRUE((error <= bound).all().item<bool>());
}

inline void sums_to_rounding(parallel::Exchange& exchange) {
  for (const int64_t n : {0, 1, 2, 7, 1000, 100'003}) {
    const torch::Tensor x = tensor_of(exchange.rank(), n);
    exchange.sum(x);
    expect_sum(x, exchange.size(), 0, n);
  }
}

inline void sums_are_the_same_bits_everywhere_and_always(parallel::Exchange& exchange) {
  constexpr int64_t kSize = 5003;
  const torch::Tensor first = tensor_of(exchange.rank(), kSize);
  exchange.sum(first);
  const torch::Tensor of_root = first.clone();
  exchange.broadcast(of_root, 0);
  EXPECT_TRUE(torch::equal(first, of_root));
  const torch::Tensor again = tensor_of(exchange.rank(), kSize);
  exchange.sum(again);
  EXPECT_TRUE(torch::equal(first, again));
}

inline void sums_integers_and_doubles(parallel::Exchange& exchange) {
  const int64_t n = exchange.size();
  const torch::Tensor counts = torch::tensor({exchange.rank() + 1, int64_t{1} << 40});
  exchange.sum(counts);
  EXPECT_EQ(counts[0].item<int64_t>(), n * (n + 1) / 2);
  EXPECT_EQ(counts[1].item<int64_t>(), n << 40);
  const torch::Tensor half = torch::full({2, 3}, 0.5, torch::kFloat64);
  exchange.sum(half);
  EXPECT_TRUE(half.eq(0.5 * static_cast<double>(n)).all().item<bool>());
}

/// Slices of any sizes, empty ones among them.
inline void reduces_to_slices_and_gathers_them(parallel::Exchange& exchange) {
  constexpr int64_t kSize = 997;
  const int64_t n = exchange.size();
  std::vector<int64_t> offsets = {0};
  for (int64_t r = 1; r < n; ++r) offsets.push_back(r % 2 == 1 ? kSize * r / n : offsets.back());
  offsets.push_back(kSize);
  const torch::Tensor flat = tensor_of(exchange.rank(), kSize);
  exchange.reduce_scatter(flat, offsets);
  const auto r = static_cast<size_t>(exchange.rank());
  expect_sum(flat.narrow(0, offsets[r], offsets[r + 1] - offsets[r]), n, offsets[r], kSize);
  exchange.gather_slices(flat, offsets);
  expect_sum(flat, n, 0, kSize);
}

inline void broadcasts_from_each(parallel::Exchange& exchange) {
  for (int64_t root = 0; root < exchange.size(); ++root) {
    const torch::Tensor x = tensor_of(exchange.rank(), 12).view({3, 4}).to(torch::kBFloat16);
    exchange.broadcast(x, root);
    EXPECT_TRUE(torch::equal(x, tensor_of(root, 12).view({3, 4}).to(torch::kBFloat16)));
  }
}

/// Large messages both ways between all neighbours at once, beside a sum.
inline void sends_and_receives(parallel::Exchange& exchange) {
  const int64_t n = exchange.size();
  if (n == 1) return;
  constexpr int64_t kSize = 300'000;
  const int64_t right = (exchange.rank() + 1) % n;
  const int64_t left = (exchange.rank() + n - 1) % n;
  std::vector<torch::Tensor> tensors;
  std::vector<parallel::Ticket> tickets;
  const torch::Tensor mine = tensor_of(exchange.rank(), kSize);
  const torch::Tensor twice = mine * 2;
  const torch::Tensor summed = mine.clone();
  const torch::Tensor from_left = torch::empty_like(mine);
  const torch::Tensor from_right = torch::empty_like(mine);
  const torch::Tensor twice_from_left = torch::empty_like(mine);
  tickets.push_back(exchange.start_send(mine, right));
  tickets.push_back(exchange.start_send(twice, right));
  tickets.push_back(exchange.start_sum(summed));
  exchange.start_send(mine, left);
  exchange.start_receive(from_left, left);
  // Between two ranks, left and right are one: three messages in order.
  exchange.start_receive(twice_from_left, left);
  exchange.start_receive(from_right, right);
  for (const parallel::Ticket& ticket : tickets) exchange.wait(ticket);
  exchange.wait_all();
  EXPECT_TRUE(torch::equal(from_left, tensor_of(left, kSize)));
  EXPECT_TRUE(torch::equal(twice_from_left, tensor_of(left, kSize) * 2));
  EXPECT_TRUE(torch::equal(from_right, tensor_of(right, kSize)));
  expect_sum(summed, n, 0, kSize);
}

inline void many_go_on_at_once(parallel::Exchange& exchange) {
  std::vector<torch::Tensor> tensors;
  for (int64_t i = 0; i < 20; ++i) {
    tensors.push_back(tensor_of(exchange.rank(), 1000 + i));
    exchange.start_sum(tensors.back());
  }
  exchange.wait_all();
  for (const torch::Tensor& x : tensors) expect_sum(x, exchange.size(), 0, x.numel());
}

/// A sum sends 2 (N - 1) / N of its tensor from every rank.
inline void counts_bytes(parallel::Exchange& exchange) {
  const int64_t n = exchange.size();
  const int64_t before = exchange.bytes_sent();
  exchange.sum(torch::ones({100 * n}));
  EXPECT_EQ(exchange.bytes_sent() - before, 2 * (n - 1) * 100 * 4);
}

/// Tensors that lie elsewhere or in pieces go through copies, whoever waits for them.
inline void exchanges_tensors_in_pieces(parallel::Exchange& exchange) {
  const int64_t n = exchange.size();
  const torch::Tensor whole = torch::ones({4, 6});
  const torch::Tensor left = whole.narrow(1, 0, 3), right = whole.narrow(1, 3, 3).t();
  exchange.sum(left);
  exchange.start_broadcast(right, 0);
  exchange.wait_all();
  exchange.wait_all();  // brings nothing back twice
  EXPECT_TRUE(left.eq(static_cast<double>(n)).all().item<bool>());
  EXPECT_TRUE(right.eq(1).all().item<bool>());
  if (n == 1) return;
  const torch::Tensor got = torch::zeros({4, 2}).select(1, 0);
  const torch::Tensor mine = torch::full({4, 2}, exchange.rank()).select(1, 1).to(got.dtype());
  exchange.start_send(mine, (exchange.rank() + 1) % n);
  exchange.start_receive(got, (exchange.rank() + n - 1) % n);
  exchange.wait_all();
  EXPECT_TRUE(got.eq((exchange.rank() + n - 1) % n).all().item<bool>());
}

inline void refuses_what_it_cannot_exchange(parallel::Exchange& exchange) {
  EXPECT_THROW(exchange.broadcast(torch::ones({4}), exchange.size()), c10::ValueError);
  EXPECT_THROW(exchange.gather_slices(torch::ones({4}), {0}), c10::ValueError);
  EXPECT_THROW(exchange.send(torch::ones({4}), exchange.rank()), c10::ValueError);
}

struct ExchangeCase {
  const char* name;
  void (*check)(parallel::Exchange&);
};

inline const std::vector<ExchangeCase> kExchangeCases = {
    {"SumsToRounding", sums_to_rounding},
    {"SumsAreTheSameBitsEverywhereAndAlways", sums_are_the_same_bits_everywhere_and_always},
    {"SumsIntegersAndDoubles", sums_integers_and_doubles},
    {"ReducesToSlicesAndGathersThem", reduces_to_slices_and_gathers_them},
    {"BroadcastsFromEach", broadcasts_from_each},
    {"SendsAndReceives", sends_and_receives},
    {"ManyGoOnAtOnce", many_go_on_at_once},
    {"CountsBytes", counts_bytes},
    {"ExchangesTensorsInPieces", exchanges_tensors_in_pieces},
    {"RefusesWhatItCannotExchange", refuses_what_it_cannot_exchange},
};

}  // namespace schmidt::test
