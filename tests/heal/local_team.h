#pragma once

#include <exception>
#include <functional>
#include <mutex>

#include "schmidt/heal/team.h"

#include "tests/parallel/local_transport.h"

namespace schmidt::test {

/// Calls `work` as each rank of a team of threads. Throws what the first of them threw.
inline void as_team(int64_t ranks, int64_t stages, const std::function<void(heal::Team&)>& work,
                    parallel::ExchangeOptions options = {.deadline_seconds = 30}) {
  const int64_t replicas = ranks / stages;
  const auto all = std::make_shared<LocalNetwork>();
  std::vector<std::shared_ptr<LocalNetwork>> columns, rows;
  for (int64_t s = 0; s < stages; ++s) columns.push_back(std::make_shared<LocalNetwork>());
  for (int64_t d = 0; d < replicas; ++d) rows.push_back(std::make_shared<LocalNetwork>());
  std::mutex mutex;
  std::exception_ptr failure;
  std::vector<std::thread> threads;
  for (int64_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const heal::Grid grid = heal::make_grid(r, ranks, stages);
      const auto exchange = [&](const std::shared_ptr<LocalNetwork>& network, int64_t rank,
                                int64_t size) {
        return parallel::Exchange(std::make_unique<LocalTransport>(network, rank, size), options);
      };
      heal::Team team{grid, exchange(all, r, ranks),
                      exchange(columns[static_cast<size_t>(grid.stage)], grid.replica, replicas),
                      exchange(rows[static_cast<size_t>(grid.replica)], grid.stage, stages)};
      try {
        work(team);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (failure == nullptr) failure = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace schmidt::test
