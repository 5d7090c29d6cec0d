#include "schmidt/model/packing.h"

#include <set>

namespace schmidt::model {
namespace {

// The spans of one row, whose first token is number `first` of the batch.
std::vector<kernels::TokenSpan> spans_of(const int64_t* segment, int64_t t, int64_t first) {
  std::vector<kernels::TokenSpan> spans;
  std::set<int64_t> seen;
  for (int64_t begin = 0, end = 0; begin < t; begin = end) {
    while (end < t && segment[end] == segment[begin]) ++end;
    TORCH_CHECK_VALUE(segment[begin] >= -1, "[packing] expected segments from -1 on, got ",
                      segment[begin]);
    if (segment[begin] == -1) continue;
    TORCH_CHECK_VALUE(seen.insert(segment[begin]).second,
                      "[packing] expected the tokens of a segment side by side, got segment ",
                      segment[begin], " in two places of a row");
    spans.push_back({first + begin, end - begin});
  }
  return spans;
}

}  // namespace

Packing packing_of(const torch::Tensor& segments) {
  TORCH_CHECK_VALUE(segments.dim() == 2 && segments.scalar_type() == torch::kInt64,
                    "[packing] expected int64 segments [b, t], got ", segments.scalar_type(), " ",
                    segments.sizes());
  const torch::Tensor host = segments.cpu().contiguous();
  const int64_t b = host.size(0), t = host.size(1);
  Packing packing;
  for (int64_t row = 0; row < b; ++row) {
    const auto spans = spans_of(host.const_data_ptr<int64_t>() + row * t, t, row * t);
    packing.spans.insert(packing.spans.end(), spans.begin(), spans.end());
  }
  const auto whole_row = [t](const kernels::TokenSpan& span) { return span.length == t; };
  if (std::cmp_equal(packing.spans.size(), b) &&
      std::all_of(packing.spans.begin(), packing.spans.end(), whole_row)) {
    packing.spans.clear();
  }
  return packing;
}

}  // namespace schmidt::model
