#include "schmidt/tn/contraction.h"

#include <algorithm>
#include <limits>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>

#include "schmidt/kernels/linear.h"
#include "schmidt/tn/shared_product.h"

namespace schmidt::tn {
namespace {

/// A table over runs begin .. end of a chain of K cores, 0 <= begin < end <= K.
template <typename T>
class RunTable {
 public:
  RunTable(int64_t sites, T value) : width_(sites + 1), values_(width_ * width_, value) {}
  T& at(int64_t begin, int64_t end) { return values_[begin * width_ + end]; }
  const T& at(int64_t begin, int64_t end) const { return values_[begin * width_ + end]; }

 private:
  int64_t width_;
  std::vector<T> values_;
};

/// The chain's dimensions, as floating-point numbers: costs of hostile shapes must
/// not overflow.
struct Chain {
  std::vector<double> bond;         // r_0 .. r_K
  std::vector<double> out_product;  // of the first k output dimensions
  std::vector<double> in_product;

  int64_t sites() const { return static_cast<int64_t>(bond.size()) - 1; }
  double out(int64_t begin, int64_t end) const { return out_product[end] / out_product[begin]; }
  double in(int64_t begin, int64_t end) const { return in_product[end] / in_product[begin]; }
  double legs(int64_t begin, int64_t end) const { return out(begin, end) * in(begin, end); }
};

Chain chain_of(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  const size_t sites = shape.out_dims.size();
  Chain chain{{1.0}, {1.0}, {1.0}};
  for (size_t k = 0; k < sites; ++k) {
    chain.bond.push_back(k + 1 < sites ? static_cast<double>(bonds[k]) : 1.0);
    chain.out_product.push_back(chain.out_product[k] * static_cast<double>(shape.out_dims[k]));
    chain.in_product.push_back(chain.in_product[k] * static_cast<double>(shape.in_dims[k]));
  }
  return chain;
}

Chain chain_of(const std::vector<torch::Tensor>& cores) {
  Chain chain{{1.0}, {1.0}, {1.0}};
  for (size_t k = 0; k < cores.size(); ++k) {
    chain.bond.push_back(static_cast<double>(cores[k].size(3)));
    chain.out_product.push_back(chain.out_product[k] * static_cast<double>(cores[k].size(1)));
    chain.in_product.push_back(chain.in_product[k] * static_cast<double>(cores[k].size(2)));
  }
  return chain;
}

struct Merges {
  RunTable<double> cost;    // multiplications to make the run one core
  RunTable<int64_t> split;  // where its last contraction joins two runs
};

/// The classic matrix-chain recursion.
Merges plan_merges(const Chain& chain) {
  const int64_t sites = chain.sites();
  Merges merges{{sites, 0.0}, {sites, 0}};
  for (int64_t length = 2; length <= sites; ++length) {
    for (int64_t begin = 0, end = length; end <= sites; ++begin, ++end) {
      double& best = merges.cost.at(begin, end) = std::numeric_limits<double>::infinity();
      for (int64_t split = begin + 1; split < end; ++split) {
        const double cost =
            merges.cost.at(begin, split) + merges.cost.at(split, end) +
            chain.bond[begin] * chain.bond[split] * chain.bond[end] * chain.legs(begin, end);
        if (cost < best) {
          best = cost;
          merges.split.at(begin, end) = split;
        }
      }
    }
  }
  return merges;
}

torch::Tensor merge(const std::vector<torch::Tensor>& cores, CoreRun run, const Merges& merges) {
  if (run.end - run.begin == 1) return cores[run.begin];
  const int64_t split = merges.split.at(run.begin, run.end);
  const torch::Tensor a = merge(cores, {run.begin, split}, merges);  // [r, m1, n1, s]
  const torch::Tensor b = merge(cores, {split, run.end}, merges);    // [s, m2, n2, t]
  const torch::Tensor product = at::mm(a.flatten(0, 2), b.flatten(1));
  return product.view({a.size(0), a.size(1), a.size(2), b.size(1), b.size(2), b.size(3)})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({a.size(0), a.size(1) * b.size(1), a.size(2) * b.size(2), b.size(3)});
}

/// One contraction of a run with what x has become. All legs keep their places:
/// x [P, Q, S] -> [P, R, S] by a matrix [R, Q], where P are the legs left of the
/// run, S those right of it, Q the run's input leg with the bonds to cores done
/// before, R its output leg with the bonds to cores still to come. The leg of the
/// rows of x stands before P or behind S.
struct Step {
  torch::Tensor matrix;  // [R, Q]
  int64_t left, right;   // P, S
};

std::vector<Step> prepare(const std::vector<torch::Tensor>& cores, const ContractionPlan& plan) {
  const int64_t sites = static_cast<int64_t>(cores.size());
  const bool merging = std::any_of(plan.runs.begin(), plan.runs.end(),
                                   [](const CoreRun& run) { return run.end - run.begin > 1; });
  const Merges merges = merging ? plan_merges(chain_of(cores)) : Merges{{0, 0.0}, {0, 0}};
  auto legs = [&](int64_t leg, int64_t begin, int64_t end) {
    int64_t product = 1;
    for (int64_t k = begin; k < end; ++k) product *= cores[k].size(leg);
    return product;
  };
  std::vector<Step> steps;
  CoreRun done{0, 0};
  for (const CoreRun& run : plan.runs) {
    const torch::Tensor core = merge(cores, run, merges);  // [a, m, n, b]
    const int64_t a = core.size(0), m = core.size(1), n = core.size(2), b = core.size(3);
    Step step;
    step.left = legs(2, 0, run.begin);
    step.right = legs(2, run.end, sites);
    if (steps.empty()) {
      step.matrix = core.permute({0, 1, 3, 2}).reshape({a * m * b, n});
      done = run;
    } else if (run.end == done.begin) {
      step.matrix = core.reshape({a * m, n * b});
      step.right =
          legs(1, done.begin, done.end) * cores[done.end - 1].size(3) * legs(2, done.end, sites);
      done.begin = run.begin;
    } else {
      TORCH_INTERNAL_ASSERT(run.begin == done.end);
      step.matrix = core.permute({1, 3, 0, 2}).reshape({m * b, a * n});
      step.left =
          legs(2, 0, done.begin) * cores[done.begin].size(0) * legs(1, done.begin, done.end);
      done.end = run.end;
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

/// From this many rows on their leg stands last, where it makes the products wide.
constexpr int64_t kRowsLast = 16;

torch::Tensor run_steps(const std::vector<Step>& steps, const torch::Tensor& x) {
  const int64_t rows = x.size(0);
  torch::Tensor state = x;  // [rows, ...], or [..., rows] once rows_last
  bool rows_last = false;
  for (const Step& step : steps) {
    const int64_t q = step.matrix.size(1);
    if (!rows_last && step.right == 1 && (step.left == 1 || rows < kRowsLast)) {
      state = kernels::linear(state.reshape({rows * step.left, q}), step.matrix);
      continue;
    }
    if (!rows_last && rows >= kRowsLast) {
      state = state.reshape({rows, -1}).t();
      rows_last = true;
    }
    state = rows_last
                ? shared_product(step.matrix, state.reshape({step.left, q, -1}))
                : shared_product(step.matrix, state.reshape({rows * step.left, q, step.right}));
  }
  return rows_last ? state.reshape({-1, rows}).t().contiguous() : state.reshape({rows, -1});
}

/// Scalars that the widest intermediate may have before rows are done in parts.
constexpr int64_t kPartScalars = 1 << 22;

int64_t rows_in_part(const std::vector<Step>& steps, int64_t rows) {
  int64_t widest = 1;
  for (const Step& s : steps) widest = std::max(widest, s.left * s.matrix.size(0) * s.right);
  return std::clamp<int64_t>(kPartScalars / widest, 1, std::max<int64_t>(1, rows));
}

bool records_gradient(const std::vector<torch::Tensor>& cores, const torch::Tensor& x) {
  return at::GradMode::is_enabled() &&
         (x.requires_grad() || std::any_of(cores.begin(), cores.end(),
                                           [](const auto& core) { return core.requires_grad(); }));
}

}  // namespace

ContractionPlan plan_contraction(const SiteShape& shape, const std::vector<int64_t>& bonds,
                                 int64_t rows, const ContractionOptions& options) {
  const int64_t sites = shape.sites();
  TORCH_CHECK_VALUE(sites >= 1 && shape.in_dims.size() == shape.out_dims.size() &&
                        static_cast<int64_t>(bonds.size()) == sites - 1,
                    "[plan_contraction] expected K sites and K - 1 bonds, got ",
                    at::IntArrayRef(shape.out_dims), " x ", at::IntArrayRef(shape.in_dims),
                    " with bonds ", at::IntArrayRef(bonds));
  TORCH_CHECK_VALUE(rows >= 0, "[plan_contraction] expected rows of at least 0, got ", rows);
  const Chain chain = chain_of(shape, bonds);
  const Merges merges = plan_merges(chain);
  const auto scale = static_cast<double>(rows);

  // best(begin, end): x has met exactly these cores, `last` the run it met last.
  RunTable<double> best(sites, std::numeric_limits<double>::infinity());
  RunTable<CoreRun> last(sites, CoreRun{0, 0});
  auto consider = [&](int64_t begin, int64_t end, CoreRun run, double cost) {
    if (cost >= best.at(begin, end)) return;
    best.at(begin, end) = cost;
    last.at(begin, end) = run;
  };
  for (int64_t length = 1; length <= sites; ++length) {
    for (int64_t end = sites; end >= length; --end) {
      const int64_t begin = end - length;
      const double left = chain.in(0, begin), right = chain.in(end, sites);
      const bool whole = length == sites && sites > 1;
      if (!whole || options.form_matrix) {
        consider(begin, end, {begin, end},
                 merges.cost.at(begin, end) + scale * left * right * chain.bond[begin] *
                                                  chain.legs(begin, end) * chain.bond[end]);
      }
      for (int64_t middle = begin + 1; middle < end; ++middle) {
        // The right part first, then the run on its left; and the mirror image.
        const double outer =
            scale * left * right * chain.bond[begin] * chain.bond[middle] * chain.bond[end];
        consider(begin, end, {begin, middle},
                 best.at(middle, end) + merges.cost.at(begin, middle) +
                     outer * chain.legs(begin, middle) * chain.out(middle, end));
        consider(begin, end, {middle, end},
                 best.at(begin, middle) + merges.cost.at(middle, end) +
                     outer * chain.legs(middle, end) * chain.out(begin, middle));
      }
    }
  }

  ContractionPlan plan{{}, best.at(0, sites)};
  for (CoreRun done{0, sites}; done.begin < done.end;) {
    const CoreRun run = last.at(done.begin, done.end);
    plan.runs.push_back(run);
    if (run.begin == done.begin) {
      done.begin = run.end;
    } else {
      done.end = run.begin;
    }
  }
  std::reverse(plan.runs.begin(), plan.runs.end());
  return plan;
}

double contraction_cost(const SiteShape& shape, const std::vector<int64_t>& bonds, int64_t rows,
                        const ContractionOptions& options) {
  return plan_contraction(shape, bonds, rows, options).multiplications;
}

torch::Tensor merge_cores(const std::vector<torch::Tensor>& cores, CoreRun run) {
  return merge(cores, run, plan_merges(chain_of(cores)));
}

torch::Tensor contract(const std::vector<torch::Tensor>& cores, const torch::Tensor& x,
                       const ContractionPlan& plan) {
  const int64_t rows = x.size(0);
  const std::vector<Step> steps = prepare(cores, plan);
  const int64_t part = records_gradient(cores, x) ? rows : rows_in_part(steps, rows);
  if (part >= rows) return run_steps(steps, x);
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& some : x.split(part)) parts.push_back(run_steps(steps, some));
  return at::cat(parts);
}

}  // namespace schmidt::tn
