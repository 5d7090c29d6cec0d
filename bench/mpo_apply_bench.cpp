// Mpo::apply against the dense product it replaces, timed in turns in one run.
//
// A name reads forward|train / m x n / sites / keep:share / rows:number / float32.
// Counters: flops = multiplications of the MPO over those of the dense product,
// time = the same of times, bond = the (largest) bond. `form` cases allow the
// contraction order that builds W for the time of one product.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "schmidt/kernels/linear.h"
#include "schmidt/tn/mpo.h"

#include "bench/timing.h"

namespace schmidt {
namespace {

struct Case {
  int64_t m, n;
  int64_t sites;  // 1: low rank
  double keep;
  int64_t rows;
  bool train;
  bool form_matrix;
  at::ScalarType dtype;

  tn::SiteShape shape() const {
    return sites == 1 ? tn::low_rank_shape(m, n) : tn::balanced_shape(m, n, sites);
  }
  std::vector<int64_t> bonds() const {
    const double budget = keep * static_cast<double>(m * n);
    return tn::bonds_for_budget(shape(), static_cast<int64_t>(budget));
  }
  double multiplications() const {
    return tn::contraction_cost(shape(), bonds(), rows, {.form_matrix = form_matrix});
  }
  double dense_multiplications() const { return static_cast<double>(rows * m * n); }
  std::string name() const {
    return fmt::format("{}/{}x{}/{}/keep:{}/rows:{}{}/{}", train ? "train" : "forward", m, n,
                       sites == 1 ? "low_rank" : fmt::format("{}_sites", sites), keep, rows,
                       form_matrix ? "/form" : "", c10::toString(dtype));
  }
};

tn::Mpo random_mpo(const Case& c) {
  const tn::SiteShape shape = c.shape();
  const std::vector<int64_t> bonds = c.bonds();
  std::vector<torch::Tensor> cores;
  int64_t left = 1;
  for (int64_t k = 0; k < shape.sites(); ++k) {
    const int64_t right = k + 1 < shape.sites() ? bonds[k] : 1;
    torch::Tensor core = at::randn({left, shape.out_dims[k], shape.in_dims[k], right}) * 0.1;
    cores.push_back(core.to(c.dtype).requires_grad_(c.train));
    left = right;
  }
  return tn::Mpo(std::move(cores));
}

void apply(benchmark::State& state, const Case& c) {
  at::AutoGradMode mode(c.train);
  // Several weights in turn, so that they come from memory as those of a model do.
  const int64_t bytes = c.m * c.n * static_cast<int64_t>(c10::elementSize(c.dtype));
  const int64_t copies = std::clamp<int64_t>((128 << 20) / bytes, 1, 32);
  std::vector<tn::Mpo> mpos;
  std::vector<torch::Tensor> weights;
  for (int64_t i = 0; i < copies; ++i) {
    mpos.push_back(random_mpo(c));
    weights.push_back(at::randn({c.m, c.n}).to(c.dtype).requires_grad_(c.train));
  }
  const torch::Tensor x = at::randn({c.rows, c.n}).to(c.dtype).requires_grad_(c.train);
  const torch::Tensor dy = at::randn({c.rows, c.m}).to(c.dtype);
  auto run = [&](const torch::Tensor& y) {
    if (c.train) y.backward(dy);
    benchmark::DoNotOptimize(y.const_data_ptr());
  };
  size_t turn = 0;
  auto mpo_product = [&] { run(mpos[turn].apply(x, {.form_matrix = c.form_matrix})); };
  auto dense_product = [&] { run(kernels::linear(x, weights[turn])); };
  mpo_product();
  dense_product();

  std::vector<double> mpo_times, dense_times;
  for (auto _ : state) {
    turn = (turn + 1) % static_cast<size_t>(copies);
    dense_times.push_back(seconds(dense_product));
    mpo_times.push_back(seconds(mpo_product));
    state.SetIterationTime(mpo_times.back());
  }
  const std::vector<int64_t> bonds = c.bonds();
  state.counters["flops"] = c.multiplications() / c.dense_multiplications();
  state.counters["time"] = typical(mpo_times) / typical(dense_times);
  state.counters["bond"] = static_cast<double>(*std::max_element(bonds.begin(), bonds.end()));
}

/// Cases beyond this many multiplications would take seconds each and are left out.
constexpr double kMostMultiplications = 3e9;

void add(const Case& c) {
  const double passes = c.train ? 3 : 1;
  if (passes * std::max(c.multiplications(), c.dense_multiplications()) > kMostMultiplications) {
    return;
  }
  // About a twentieth of a second, but never fewer than five runs of each.
  const double work = passes * (c.multiplications() + c.dense_multiplications());
  const auto iterations = static_cast<int64_t>(std::clamp(2e9 / work, 5.0, 300.0));
  benchmark::RegisterBenchmark(c.name().c_str(), [c](benchmark::State& state) { apply(state, c); })
      ->UseManualTime()
      ->Iterations(iterations)
      ->Unit(benchmark::kMicrosecond);
}

void add_all() {
  struct Weight {
    int64_t m, n;
    std::vector<double> keeps;
  };
  const std::vector<Weight> weights{{576, 576, {0.1, 0.3, 0.5}},
                                    {1536, 576, {0.1, 0.3, 0.5}},
                                    {4096, 4096, {0.3}},
                                    {4096, 11008, {0.3}}};
  for (const Weight& w : weights) {
    for (const double keep : w.keeps) {
      for (const int64_t sites : {1, 2, 3}) {
        for (const int64_t rows : {1, 8, 128, 1024}) {
          for (const bool train : {false, true}) {
            if (train && rows < 128) continue;
            Case c{w.m, w.n, sites, keep, rows, train, false, at::kFloat};
            add(c);
            const double without = c.multiplications();
            c.form_matrix = true;
            if (c.multiplications() < without) add(c);
          }
        }
      }
    }
  }
  for (const int64_t rows : {1, 8, 128}) {
    for (const int64_t sites : {1, 2, 3}) {
      add({1536, 576, sites, 0.3, rows, false, false, at::kBFloat16});
    }
  }
}

}  // namespace
}  // namespace schmidt

int main(int argc, char** argv) { return schmidt::run_benchmarks(argc, argv, schmidt::add_all); }
