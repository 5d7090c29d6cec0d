// Factorizers of one weight in the norm of its inputs, on a synthetic layer: normal
// entries, inputs whose principal variances fall as 1 / i, one of them standing far out.
//
//   low_rank / m x n / rank   Counters: svd = time of torch.linalg.svd of W in float32
//                             over ours, excess = error over the optimum's, minus 1,
//                             estimate = relative_error over that error, minus 1.
//   both_moments / m x n / rank   The default's factorization, outputs weighted too. Counters:
//                             whole = time with a whole decomposition over ours, excess as above.
//   mpo / m x n / sites / keep   weighted_mpo, Counters: start, error = relative weighted error
//                             of plain TT-SVD and after the sweeps, low_rank = the optimum
//                             of equal parameters.
//   apply / m x n / rank / rows   Counters: time, flops = gauge-fixed over both factors.
//   on / device / m x n / rank   low_rank alone, on the CPU and, where there is one, a GPU.

#include <cmath>

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "schmidt/calibrate/gradient_moments.h"
#include "schmidt/tn/als.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/weighted_low_rank.h"

#include "bench/timing.h"

namespace schmidt {
namespace {

struct Layer {
  torch::Tensor w;  // [m, n]
  tn::MomentNorm norm;
};

Layer layer(int64_t m, int64_t n) {
  torch::Tensor deviations = at::arange(1, n + 1, at::kFloat).rsqrt();
  deviations[0] *= 5;
  const torch::Tensor directions = at::randn({n, n}) * deviations;  // nearly orthogonal
  return {at::randn({m, n}),
          {.input = at::mm(directions, directions.t()) / static_cast<double>(n)}};
}

void low_rank(benchmark::State& state, int64_t m, int64_t n, int64_t rank) {
  at::NoGradGuard no_grad;
  const Layer l = layer(m, n);
  double svd = 0;
  tn::LowRank found;
  std::vector<double> ours;
  for (auto _ : state) {
    ours.push_back(seconds([&] { found = tn::weighted_low_rank(l.w, l.norm, {.rank = rank}); }));
    if (svd == 0) svd = seconds([&] { benchmark::DoNotOptimize(at::linalg_svd(l.w, false)); });
    state.SetIterationTime(ours.back());
  }
  const double best =
      tn::weighted_low_rank(l.w, l.norm, {.rank = rank, .exact = true}).relative_error;
  const double error = tn::weighted_error(l.w, at::mm(found.left, found.right), l.norm);
  state.counters["svd"] = svd / typical(ours);
  state.counters["excess"] = error / best - 1;
  state.counters["estimate"] = found.relative_error / error - 1;
}

void low_rank_on(benchmark::State& state, const char* device, int64_t m, int64_t n, int64_t rank) {
  at::NoGradGuard no_grad;
  const Layer l = layer(m, n);
  const torch::Tensor w = l.w.to(torch::Device(device));
  const tn::MomentNorm norm{.input = l.norm.input.to(torch::Device(device))};
  const auto factorize = [&] {
    const tn::LowRank found = tn::weighted_low_rank(w, norm, {.rank = rank});
    benchmark::DoNotOptimize(found.left[0][0].item<float>());  // a device is waited for
  };
  if (!w.is_cpu()) factorize();  // the first time loads its libraries
  for (auto _ : state) state.SetIterationTime(seconds(factorize));
}

/// A square layer in both moments, those of the outputs like those of the inputs.
void both_moments(benchmark::State& state, int64_t size, int64_t rank) {
  at::NoGradGuard no_grad;
  const Layer l = layer(size, size);
  const torch::Tensor h = layer(size, size).norm.input;
  const calibrate::GradientMoments gradient{at::mm(l.w.t(), at::mm(h, l.w)), true,
                                            h.diagonal().mean().item<double>()};
  const calibrate::NormPair pair =
      calibrate::norm_pair(l.w, nullptr, l.norm.input, gradient, 0.05, 1e-4);
  calibrate::Projector found;
  calibrate::Modes all;
  std::vector<double> ours;
  for (auto _ : state) {
    ours.push_back(seconds([&] { found = calibrate::leading_projector(pair.a, pair.b, rank); }));
    state.SetIterationTime(ours.back());
  }
  const double whole = seconds([&] { all = calibrate::weighted_modes(pair.a, pair.b); });
  const torch::Tensor b = pair.b.to(at::kDouble), a = pair.a.to(at::kDouble);
  const auto dropped = [&](const torch::Tensor& q) {
    const torch::Tensor wide = q.to(at::kDouble);
    return ((a * b).sum() - (at::mm(b, wide) * wide).sum()).item<double>();
  };
  state.counters["whole"] = whole / typical(ours);
  state.counters["excess"] = std::sqrt(dropped(found.q) / dropped(all.q.narrow(1, 0, rank))) - 1;
}

void mpo(benchmark::State& state, int64_t m, int64_t n, int64_t sites, double keep) {
  at::NoGradGuard no_grad;
  const Layer l = layer(m, n);
  const auto budget = static_cast<int64_t>(keep * static_cast<double>(m * n));
  const tn::SiteShape shape = tn::balanced_shape(m, n, sites), flat = tn::low_rank_shape(m, n);
  const tn::FactorizeOptions options{.shape = shape,
                                     .max_bonds = tn::bonds_for_budget(shape, budget)};
  double error = 0;
  for (auto _ : state) {
    state.SetIterationTime(
        seconds([&] { error = tn::weighted_mpo(l.w, options, l.norm).relative_error; }));
  }
  const torch::Tensor plain = tn::factorize(l.w, options).mpo.to_dense();
  const int64_t rank = tn::bonds_for_budget(flat, budget)[0];
  state.counters["start"] = tn::weighted_error(l.w, plain, l.norm);
  state.counters["error"] = error;
  state.counters["low_rank"] = tn::weighted_low_rank(l.w, l.norm, {.rank = rank}).relative_error;
}

void apply(benchmark::State& state, int64_t m, int64_t n, int64_t rank, int64_t rows) {
  at::NoGradGuard no_grad;
  const tn::Mpo full({at::randn({1, m, 1, rank}) * 0.1, at::randn({rank, 1, n, 1}) * 0.1});
  const tn::GaugeFixed fixed = tn::fix_gauge(full);
  const torch::Tensor x = at::randn({rows, n});
  std::vector<double> ours, theirs;
  for (auto _ : state) {
    theirs.push_back(seconds([&] { benchmark::DoNotOptimize(full.apply(x).const_data_ptr()); }));
    ours.push_back(
        seconds([&] { benchmark::DoNotOptimize(tn::apply(fixed, x).const_data_ptr()); }));
    state.SetIterationTime(ours.back());
  }
  state.counters["time"] = typical(ours) / typical(theirs);
  state.counters["flops"] = static_cast<double>(m + n - rank) / static_cast<double>(m + n);
}

template <typename Body>
void add(const std::string& name, int64_t iterations, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(iterations)
      ->Unit(benchmark::kMillisecond);
}

void add_all() {
  for (const auto& [size, rank] :
       {std::pair<int64_t, int64_t>{1024, 128}, {2048, 256}, {4096, 512}}) {
    add(fmt::format("low_rank/{0}x{0}/{1}", size, rank), 3,
        [size, rank](benchmark::State& state) { low_rank(state, size, size, rank); });
    add(fmt::format("both_moments/{0}x{0}/{1}", size, rank), 1,
        [size, rank](benchmark::State& state) { both_moments(state, size, rank); });
  }
  for (const char* device : {"cpu", "cuda"}) {  // a down projection of LLaMA-2 7B
    if (device == std::string("cuda") && !at::globalContext().hasCUDA()) continue;
    add(fmt::format("on/{}/4096x11008/1024", device), 1,
        [device](benchmark::State& state) { low_rank_on(state, device, 4096, 11008, 1024); });
  }
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}}) {
    for (const int64_t sites : {2, 3}) {
      add(fmt::format("mpo/{}x{}/{}/keep:0.5", m, n, sites), 1,
          [m, n, sites](benchmark::State& state) { mpo(state, m, n, sites, 0.5); });
    }
    for (const int64_t rows : {1, 8, 128, 1024}) {
      const int64_t rank = tn::gauge_fixed_bonds_for_budget(tn::low_rank_shape(m, n), m * n / 2)[0];
      add(fmt::format("apply/{}x{}/{}/rows:{}", m, n, rank, rows), 50,
          [m, n, rank, rows](benchmark::State& state) { apply(state, m, n, rank, rows); });
    }
  }
}

}  // namespace
}  // namespace schmidt

int main(int argc, char** argv) { return schmidt::run_benchmarks(argc, argv, schmidt::add_all); }
