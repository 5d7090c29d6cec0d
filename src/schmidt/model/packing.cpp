#include "schmidt/model/packing.h"

#include <set>

namespace schmidt::model {
namespace {

// The runs of one row, whose first token is number `first` of the batch.
std::vector<Packing::Run> runs_of(const int64_t* segment, int64_t t, int64_t first) {
  std::vector<Packing::Run> runs;
  std::set<int64_t> seen;
  for (int64_t begin = 0, end = 0; begin < t; begin = end) {
    while (end < t && segment[end] == segment[begin]) ++end;
    TORCH_CHECK_VALUE(segment[begin] >= -1, "[packing] expected segments from -1 on, got ",
                      segment[begin]);
    if (segment[begin] == -1) continue;
    TORCH_CHECK_VALUE(seen.insert(segment[begin]).second,
                      "[packing] expected the tokens of a segment side by side, got segment ",
                      segment[begin], " in two places of a row");
    runs.push_back({first + begin, end - begin});
  }
  return runs;
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
    const auto runs = runs_of(host.const_data_ptr<int64_t>() + row * t, t, row * t);
    packing.runs.insert(packing.runs.end(), runs.begin(), runs.end());
  }
  const auto whole_row = [t](const Packing::Run& run) { return run.length == t; };
  if (std::cmp_equal(packing.runs.size(), b) &&
      std::all_of(packing.runs.begin(), packing.runs.end(), whole_row)) {
    packing.runs.clear();
  }
  return packing;
}

}  // namespace schmidt::model
