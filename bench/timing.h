#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

namespace schmidt {

/// How long `body` takes: CPU time where the process runs one thread, which other
/// work on the machine does not disturb, the wall clock's otherwise.
template <typename Body>
double seconds(Body body) {
  const bool one_thread = at::get_num_threads() == 1;
  auto now = [one_thread] {
    timespec time{};
    clock_gettime(one_thread ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  body();
  return now() - start;
}

/// The tenth percentile: what other work disturbs least, without being one lucky run.
inline double typical(std::vector<double> times) {
  const auto place = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 10);
  std::nth_element(times.begin(), place, times.end());
  return *place;
}

/// The whole of a benchmark program: `add_all` registers its benchmarks. The exit code.
inline int run_benchmarks(int argc, char** argv, void (*add_all)()) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace schmidt
