#include "schmidt/tn/contraction.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/linear.h"
#include "schmidt/tn/merge_order.h"
#include "schmidt/tn/shared_product.h"

namespace schmidt::tn {
namespace {

torch::Tensor merge(const std::vector<torch::Tensor>& cores, CoreSpan span,
                    const MergeOrder& order) {
  if (span.end - span.begin == 1) return cores[span.begin];
  const int64_t split = order.split.at(span.begin, span.end);
  const torch::Tensor a = merge(cores, {span.begin, split}, order);  // [r, m1, n1, s]
  const torch::Tensor b = merge(cores, {split, span.end}, order);    // [s, m2, n2, t]
  const torch::Tensor product = at::mm(a.flatten(0, 2), b.flatten(1));
  return product.view({a.size(0), a.size(1), a.size(2), b.size(1), b.size(2), b.size(3)})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({a.size(0), a.size(1) * b.size(1), a.size(2) * b.size(2), b.size(3)});
}

/// One contraction of a span with what x has become: P are the legs left of the span, S those right
/// of it, Q the span's input leg with the bonds to cores done before, R its output leg with the
/// bonds to cores still to come. The leg of the rows of x stands before P or behind S.
using Step = kernels::ContractionStep;

/// From this many rows on their leg stands last, where it makes the products wide.
constexpr int64_t kRowsLast = 32;

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

/// Scalars of the widest intermediate beyond which rows are done in parts: a part
/// stays in a core's cache, which is worth a factor of three and more.
constexpr int64_t kPartScalars = 1 << 20;

int64_t rows_in_part(const std::vector<Step>& steps, int64_t rows) {
  int64_t widest = 1;
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    widest = std::max(widest, steps[i].left * steps[i].matrix.size(0) * steps[i].right);
  }
  return steps.size() == 1 ? rows : std::clamp<int64_t>(kPartScalars / widest, 1, rows);
}

torch::Tensor run_in_parts(const std::vector<Step>& steps, const torch::Tensor& x) {
  const int64_t part = rows_in_part(steps, x.size(0));
  if (part >= x.size(0)) return run_steps(steps, x);
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& some : x.split(part)) parts.push_back(run_steps(steps, some));
  return at::cat(parts);
}

torch::Tensor detached_leaf(const torch::Tensor& t) { return t.detach().requires_grad_(true); }

using torch::autograd::variable_list;

/// The contraction with a gradient that contracts once more, part by part: what
/// lies between x and y is up to r times as large as either, and training would
/// have to keep it for every layer.
struct Contraction : torch::autograd::Function<Contraction> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const ContractionPlan& plan, at::TensorList cores) {
    variable_list saved = cores.vec();
    saved.push_back(x);
    context->save_for_backward(std::move(saved));
    context->saved_data["spans"] = flat(plan.spans);
    return run_in_parts(contraction_steps(cores.vec(), plan), x);
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                const variable_list& gradients) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "[Mpo::apply] expected a first derivative, got a request for a "
                                "graph of it");
    variable_list cores = context->get_saved_variables();
    const torch::Tensor x = cores.back();
    cores.pop_back();
    const torch::Tensor dy = gradients[0].contiguous();
    const ContractionPlan plan{spans_of(context->saved_data["spans"].toIntVector()), 0};

    at::AutoGradMode enable(true);
    for (torch::Tensor& core : cores) core = detached_leaf(core);
    const std::vector<Step> steps = contraction_steps(cores, plan);
    std::vector<Step> leaves = steps;  // the same without what made the matrices
    variable_list inputs, sums;
    for (Step& step : leaves) {
      step.matrix = detached_leaf(step.matrix);
      inputs.push_back(step.matrix);
    }
    inputs.emplace_back();
    std::vector<torch::Tensor> dx;
    const int64_t part = rows_in_part(steps, x.size(0));
    for (int64_t row = 0; row < x.size(0); row += part) {
      const int64_t end = std::min(row + part, x.size(0));
      inputs.back() = detached_leaf(x.slice(0, row, end));
      variable_list some = torch::autograd::grad({run_steps(leaves, inputs.back())}, inputs,
                                                 {dy.slice(0, row, end)});
      dx.push_back(some.back());
      some.pop_back();
      at::NoGradGuard no_grad;
      for (size_t i = 0; i < some.size(); ++i) {
        if (row == 0) {
          sums.push_back(some[i].clone());
        } else {
          sums[i] += some[i];
        }
      }
    }
    variable_list matrices;
    for (const Step& step : steps) matrices.push_back(step.matrix);
    variable_list result = torch::autograd::grad(matrices, cores, sums);
    result.insert(result.begin(), {dx.size() == 1 ? dx[0] : at::cat(dx), torch::Tensor()});
    return result;
  }

 private:
  static std::vector<int64_t> flat(const std::vector<CoreSpan>& spans) {
    std::vector<int64_t> numbers;
    for (const CoreSpan& span : spans) numbers.insert(numbers.end(), {span.begin, span.end});
    return numbers;
  }
  static std::vector<CoreSpan> spans_of(const std::vector<int64_t>& numbers) {
    std::vector<CoreSpan> spans;
    for (size_t i = 0; i < numbers.size(); i += 2) spans.push_back({numbers[i], numbers[i + 1]});
    return spans;
  }
};

bool records_gradient(const std::vector<torch::Tensor>& cores, const torch::Tensor& x) {
  return at::GradMode::is_enabled() &&
         (x.requires_grad() || std::any_of(cores.begin(), cores.end(),
                                           [](const auto& core) { return core.requires_grad(); }));
}

}  // namespace

torch::Tensor merge_cores(const std::vector<torch::Tensor>& cores, CoreSpan span) {
  return merge(cores, span, merge_order(chain_of(cores)));
}

std::vector<kernels::ContractionStep> contraction_steps(const std::vector<torch::Tensor>& cores,
                                                        const ContractionPlan& plan) {
  const int64_t sites = static_cast<int64_t>(cores.size());
  const bool merging = std::any_of(plan.spans.begin(), plan.spans.end(),
                                   [](const CoreSpan& span) { return span.end - span.begin > 1; });
  const MergeOrder order = merging ? merge_order(chain_of(cores)) : MergeOrder{{0, 0.0}, {0, 0}};
  auto legs = [&](int64_t leg, int64_t begin, int64_t end) {
    int64_t product = 1;
    for (int64_t k = begin; k < end; ++k) product *= cores[k].size(leg);
    return product;
  };
  std::vector<Step> steps;
  CoreSpan done{0, 0};
  for (const CoreSpan& span : plan.spans) {
    const torch::Tensor core = merge(cores, span, order);  // [a, m, n, b]
    const int64_t a = core.size(0), m = core.size(1), n = core.size(2), b = core.size(3);
    Step step;
    step.left = legs(2, 0, span.begin);
    step.right = legs(2, span.end, sites);
    if (steps.empty()) {
      step.matrix = core.permute({0, 1, 3, 2}).reshape({a * m * b, n});
      done = span;
    } else if (span.end == done.begin) {
      step.matrix = core.reshape({a * m, n * b});
      step.right =
          legs(1, done.begin, done.end) * cores[done.end - 1].size(3) * legs(2, done.end, sites);
      done.begin = span.begin;
    } else {
      TORCH_INTERNAL_ASSERT(span.begin == done.end);
      step.matrix = core.permute({1, 3, 0, 2}).reshape({m * b, a * n});
      step.left =
          legs(2, 0, done.begin) * cores[done.begin].size(0) * legs(1, done.begin, done.end);
      done.end = span.end;
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

torch::Tensor contract(const std::vector<torch::Tensor>& cores, const torch::Tensor& x,
                       const ContractionPlan& plan) {
  if (records_gradient(cores, x)) return Contraction::apply(x, plan, at::TensorList(cores));
  return run_in_parts(contraction_steps(cores, plan), x);
}

}  // namespace schmidt::tn
