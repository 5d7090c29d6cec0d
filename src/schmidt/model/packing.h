#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/token_span.h"

namespace schmidt::model {

/// Which tokens of a batch [b, t] see each other: those of one span, causally. Several
/// examples fill one row this way without one of them knowing of another:
///
///   row    a a a b b b b b c c - -        spans of a, b, c; - is padding
///
/// Positions go on counting along the row: rotary attention depends on their
/// differences alone, so a span need not begin at position 0.
struct Packing {
  /// Ascending; none: every row is one span. Tokens are numbered along the batch: token i
  /// of row r is r t + i. A token of no span is padding: attention gives it zeros, and
  /// nobody sees it.
  std::vector<kernels::TokenSpan> spans;
};

/// segments int64 [b, t]: the example of its row that a token belongs to, -1 for
/// padding. Rows of one segment each, without padding, give no spans.
/// Throws c10::ValueError for another shape, type or number below -1, or an example
/// whose tokens are not neighbours.
Packing packing_of(const torch::Tensor& segments);

}  // namespace schmidt::model
