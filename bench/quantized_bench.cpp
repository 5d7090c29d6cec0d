// kernels::quantized_linear against kernels::linear on the products of SmolLM2, of a token, of some
// and of a prompt, timed in turns in one run: exact and with int8 activations beside float32 and
// bfloat16 weights. Counters: float32, bfloat16 = their time over ours; Gcodes/s = integers that
// ours multiplies by each row.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "schmidt/kernels/linear.h"
#include "schmidt/kernels/quantized_linear.h"

#include "bench/timing.h"

namespace schmidt {
namespace {

struct Case {
  int64_t m, n, rows;
  int bits;
  kernels::Activations activations;
};

/// A weight in integers with its tensors.
struct Integers {
  torch::Tensor packed, scales, zeros;
  kernels::QuantizedWeight weight;

  Integers(const quant::IntegerFormat& format, int64_t m, int64_t n)
      : packed(at::randint(INT32_MIN, INT32_MAX, {m, quant::packed_words(n, format.bits)},
                           torch::kInt32)),
        scales(at::rand({m, n / format.group}).to(torch::kFloat16)),
        zeros(format.symmetric ? torch::Tensor()
                               : at::randint(0, format.levels(), scales.sizes(), torch::kUInt8)),
        weight(kernels::quantized_weight(format, packed, scales, zeros)) {}
};

void products(benchmark::State& state, const Case& c) {
  at::NoGradGuard no_grad;
  // Several weights in turn, so that they come from memory as those of a model do.
  const auto copies = [&](int64_t bits) {
    return std::clamp<int64_t>((int64_t{96} << 20) / (c.m * c.n * bits / 8), 2, 200);
  };
  std::vector<Integers> integers;
  for (int64_t i = 0; i < copies(c.bits); ++i) {
    integers.emplace_back(quant::IntegerFormat{c.bits, 64, c.bits == 8}, c.m, c.n);
  }
  const auto dense = [&](at::ScalarType dtype, int64_t bits) {
    std::vector<torch::Tensor> weights;
    for (int64_t i = 0; i < copies(bits); ++i) {
      weights.push_back(at::randn({c.m, c.n}).to(dtype));
    }
    return weights;
  };
  const std::vector<torch::Tensor> wide = dense(at::kFloat, 32), half = dense(at::kBFloat16, 16);
  const torch::Tensor x = at::randn({c.rows, c.n}), x_half = x.to(at::kBFloat16);
  std::vector<double> ours, float32, bfloat16;
  const auto timed = [](std::vector<double>& times, const auto& weights, const auto& product) {
    double total = 0;
    for (const auto& w : weights) {
      times.push_back(seconds([&] { benchmark::DoNotOptimize(product(w).const_data_ptr()); }));
      total += times.back();
    }
    return total / static_cast<double>(weights.size());
  };
  for (auto _ : state) {
    timed(float32, wide, [&](const torch::Tensor& w) { return kernels::linear(x, w); });
    timed(bfloat16, half, [&](const torch::Tensor& w) { return kernels::linear(x_half, w); });
    state.SetIterationTime(timed(ours, integers, [&](const Integers& w) {
      return kernels::quantized_linear(x, w.weight, c.activations);
    }));
  }
  state.counters["float32"] = typical(float32) / typical(ours);
  state.counters["bfloat16"] = typical(bfloat16) / typical(ours);
  state.counters["Gcodes/s"] = static_cast<double>(c.m * c.n * c.rows) / typical(ours) * 1e-9;
}

void add_all() {
  const std::vector<std::pair<int64_t, int64_t>> weights{
      {192, 576},    // k, v
      {576, 576},    // q, o
      {1536, 576},   // gate, up
      {576, 1536},   // down
      {49152, 576},  // head
  };
  for (const auto activations : {kernels::Activations::kExact, kernels::Activations::kInt8}) {
    const char* const mode = activations == kernels::Activations::kInt8 ? "int8" : "exact";
    for (const int bits : quant::kIntegerWidths) {
      for (const auto& [m, n] : weights) {
        for (const int64_t rows : {1, 4, 8, 16, 64, 512}) {
          const Case c{m, n, rows, bits, activations};
          const std::string name = fmt::format("{}/{} bits/{}x{}/rows:{}", mode, bits, m, n, rows);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [c](benchmark::State& state) { products(state, c); })
              ->UseManualTime()
              ->Iterations(3)
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
}

}  // namespace
}  // namespace schmidt

int main(int argc, char** argv) { return schmidt::run_benchmarks(argc, argv, schmidt::add_all); }
