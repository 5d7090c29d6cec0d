#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "schmidt/parallel/transport.h"

namespace schmidt::test {

/// Ranks that are threads of one process: what they send lies here until it is received.
struct LocalNetwork {
  using Bytes = std::vector<std::byte>;
  using Line = std::tuple<int64_t, int64_t, int>;  // from, to, channel

  std::mutex mutex;
  std::map<Line, std::deque<Bytes>> sent;
  std::map<int64_t, std::deque<int64_t>> greetings;  // by the greeted rank
};

class LocalTransport : public parallel::Transport {
 public:
  LocalTransport(std::shared_ptr<LocalNetwork> network, int64_t rank, int64_t size)
      : network_(std::move(network)), rank_(rank), size_(size) {}

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  int64_t global_rank(int64_t r) const override { return r; }

  std::unique_ptr<parallel::Message> send(std::span<const std::byte> bytes, int64_t to,
                                          Channel channel) override {
    const std::lock_guard lock(network_->mutex);
    network_->sent[{rank_, to, channel}].emplace_back(bytes.begin(), bytes.end());
    return std::make_unique<Sent>();
  }

  std::unique_ptr<parallel::Message> receive(std::span<std::byte> bytes, int64_t from,
                                             Channel channel) override {
    const std::lock_guard lock(network_->mutex);
    const LocalNetwork::Line line = {from, rank_, channel};
    return std::make_unique<Awaited>(network_, line, bytes, next_[line]++, taken_[line]);
  }

  void greet(int64_t to) override {
    const std::lock_guard lock(network_->mutex);
    network_->greetings[to].push_back(rank_);
  }

  std::optional<int64_t> greeted() override {
    const std::lock_guard lock(network_->mutex);
    std::deque<int64_t>& mine = network_->greetings[rank_];
    if (mine.empty()) return std::nullopt;
    const int64_t from = mine.front();
    mine.pop_front();
    return from;
  }

 private:
  struct Sent : parallel::Message {
    bool done() override { return true; }
  };

  // The n-th receive of a line takes its n-th message.
  struct Awaited : parallel::Message {
    Awaited(std::shared_ptr<LocalNetwork> network, LocalNetwork::Line line,
            std::span<std::byte> bytes, int64_t turn, int64_t& taken)
        : network_(std::move(network)), line_(line), bytes_(bytes), turn_(turn), taken_(taken) {}

    bool done() override {
      if (arrived_) return true;
      const std::lock_guard lock(network_->mutex);
      auto& waiting = network_->sent[line_];
      if (taken_ != turn_ || waiting.empty()) return false;
      EXPECT_EQ(waiting.front().size(), bytes_.size()) << "another message was expected";
      std::ranges::copy(waiting.front(), bytes_.begin());
      waiting.pop_front();
      ++taken_;
      return arrived_ = true;
    }

    std::shared_ptr<LocalNetwork> network_;
    LocalNetwork::Line line_;
    std::span<std::byte> bytes_;
    int64_t turn_;
    int64_t& taken_;
    bool arrived_ = false;
  };

  std::shared_ptr<LocalNetwork> network_;
  int64_t rank_, size_;
  std::map<LocalNetwork::Line, int64_t> next_, taken_;
};

/// Calls `work` as each of n ranks, in a thread for each.
inline void as_ranks(int64_t n,
                     const std::function<void(std::unique_ptr<parallel::Transport>)>& work) {
  auto network = std::make_shared<LocalNetwork>();
  std::vector<std::thread> threads;
  for (int64_t r = 0; r < n; ++r) {
    threads.emplace_back([=, &work] { work(std::make_unique<LocalTransport>(network, r, n)); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace schmidt::test
