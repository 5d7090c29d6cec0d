#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include <ATen/Parallel.h>

namespace schmidt::kernels {

/// Runs first(share, shares) and then second(share, shares) with every share on a thread of its
/// own, or on this thread alone. No thread begins the second before all have ended the first: to
/// wait for each other costs threads that are awake far less than to be woken twice. Throws what a
/// step threw.
template <typename First, typename Second>
void parallel_steps(bool alone, const First& first, const Second& second) {
#ifdef _OPENMP
  at::internal::lazy_init_num_threads();
  if (!alone && !at::in_parallel_region() && at::get_num_threads() > 1) {
    std::atomic_flag failed;
    std::exception_ptr error;
    const auto run = [&](const auto& step) noexcept {
      try {
        step(omp_get_thread_num(), omp_get_num_threads());
      } catch (...) {
        if (!failed.test_and_set()) error = std::current_exception();
      }
    };
#pragma omp parallel
    {
      run(first);
#pragma omp barrier
      run(second);
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#endif
  first(0, 1);
  second(0, 1);
}

}  // namespace schmidt::kernels
