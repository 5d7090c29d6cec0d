#include "schmidt/tn/contraction_plan.h"

#include <algorithm>
#include <limits>

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include "schmidt/tn/merge_order.h"

namespace schmidt::tn {

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
  const MergeOrder merges = merge_order(chain);
  const auto scale = static_cast<double>(rows);

  // best(begin, end): x has met exactly these cores, `last` the span it met last.
  SpanTable<double> best(sites, std::numeric_limits<double>::infinity());
  SpanTable<CoreSpan> last(sites, CoreSpan{0, 0});
  auto consider = [&](int64_t begin, int64_t end, CoreSpan span, double cost) {
    if (cost >= best.at(begin, end)) return;
    best.at(begin, end) = cost;
    last.at(begin, end) = span;
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
        // The right part first, then the span on its left; and the mirror image.
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
  for (CoreSpan done{0, sites}; done.begin < done.end;) {
    const CoreSpan span = last.at(done.begin, done.end);
    plan.spans.push_back(span);
    if (span.begin == done.begin) {
      done.begin = span.end;
    } else {
      done.end = span.begin;
    }
  }
  std::reverse(plan.spans.begin(), plan.spans.end());
  return plan;
}

double contraction_cost(const SiteShape& shape, const std::vector<int64_t>& bonds, int64_t rows,
                        const ContractionOptions& options) {
  return plan_contraction(shape, bonds, rows, options).multiplications;
}

}  // namespace schmidt::tn
