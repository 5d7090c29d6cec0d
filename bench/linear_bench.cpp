// kernels::linear against at::linear on the products of decoding SmolLM2, timed in
// turns in one run. Counters: speedup = at::linear's time over ours, GB/s = the
// rate at which ours reads the weights.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "schmidt/kernels/linear.h"

#include "bench/timing.h"

namespace schmidt {
namespace {

struct Case {
  int64_t m, n, rows;
  at::ScalarType dtype;
};

void products(benchmark::State& state, const Case& c) {
  at::NoGradGuard no_grad;
  // Several weights in turn, so that they come from memory as those of a model do.
  const int64_t bytes = c.m * c.n * static_cast<int64_t>(c10::elementSize(c.dtype));
  const int64_t copies = std::clamp<int64_t>((256 << 20) / bytes, 2, 200);
  std::vector<torch::Tensor> weights;
  for (int64_t i = 0; i < copies; ++i) weights.push_back(at::randn({c.m, c.n}).to(c.dtype));
  const torch::Tensor x = at::randn({c.rows, c.n}).to(c.dtype);
  auto timed = [](auto product) {
    return seconds([&] { benchmark::DoNotOptimize(product().const_data_ptr()); });
  };
  // Each runs over half of the weights in one go: a switch from one thread pool to
  // another costs what decoding does not pay.
  std::vector<double> ours, theirs;
  for (auto _ : state) {
    double total = 0;
    for (int64_t i = 0; i < copies / 2; ++i) {
      theirs.push_back(timed([&] { return at::linear(x, weights[i]); }));
    }
    for (int64_t i = copies / 2; i < copies; ++i) {
      ours.push_back(timed([&] { return kernels::linear(x, weights[i]); }));
      total += ours.back();
    }
    state.SetIterationTime(total / static_cast<double>(copies - copies / 2));
  }
  state.counters["speedup"] = typical(theirs) / typical(ours);
  state.counters["GB/s"] = static_cast<double>(bytes) / typical(ours) * 1e-9;
}

void add_all() {
  const std::vector<std::pair<int64_t, int64_t>> weights{
      {960, 576},    // q, k, v
      {576, 576},    // o
      {3072, 576},   // gate, up
      {576, 1536},   // down
      {49152, 576},  // head
      {100, 576},    // the two products of a low-rank layer
      {576, 100},
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto& [m, n] : weights) {
      for (const int64_t rows : {1, 2, 4, 8, 16, 32, 64, 128, 512}) {
        const Case c{m, n, rows, dtype};
        const std::string name = fmt::format("{}x{}/rows:{}/{}", m, n, rows, c10::toString(dtype));
        benchmark::RegisterBenchmark(name.c_str(),
                                     [c](benchmark::State& state) { products(state, c); })
            ->UseManualTime()
            ->Iterations(m > 10000 ? 3 : 7)
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace
}  // namespace schmidt

int main(int argc, char** argv) { return schmidt::run_benchmarks(argc, argv, schmidt::add_all); }
