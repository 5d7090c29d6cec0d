#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

struct ContractionOptions {
  /// Lets the cheapest order be the one that contracts all cores first, which
  /// builds W [m, n] for the time of one product. It often is for hundreds of
  /// rows: balanced sites take r (1/m_2 + 1/n_1) times the operations of the dense
  /// product on two sites, W a mere r / rows more than it.
  bool form_matrix = false;
};

/// Neighbouring cores begin .. end - 1, contracted with each other first.
struct CoreSpan {
  int64_t begin, end;
  bool operator==(const CoreSpan&) const = default;
};

/// In which order x meets the cores. Each span extends those before it on the left
/// or on the right, so that the cores done always are neighbours:
///
///       |     |     |                      |     |
///     --C_1-- C_2-- C_3--     becomes    --C_1===Y====
///       |     |     |                      |     |
///       x=====x=====x                      x=====
///
/// Sweeps from either end and from the middle outwards are such orders.
struct ContractionPlan {
  std::vector<CoreSpan> spans;
  double multiplications;  ///< in all, the contractions inside spans included
};

/// The plan with the fewest multiplications for `rows` rows of x: dynamic
/// programming over intervals of cores, O(K^3) steps.
/// Throws c10::ValueError if bonds do not fit the shape, or rows < 0.
ContractionPlan plan_contraction(const SiteShape& shape, const std::vector<int64_t>& bonds,
                                 int64_t rows, const ContractionOptions& options = {});

/// Multiplications of Mpo::apply; the dense product has rows * m * n.
double contraction_cost(const SiteShape& shape, const std::vector<int64_t>& bonds, int64_t rows,
                        const ContractionOptions& options = {});

}  // namespace schmidt::tn
