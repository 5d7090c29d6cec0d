#include "schmidt/calibrate/windows.h"

#include <random>
#include <utility>

#include <ATen/ops/empty.h>

#include "schmidt/base/shuffle.h"

namespace schmidt::calibrate {

torch::Tensor calibration_windows(const std::vector<std::vector<int64_t>>& texts, int64_t context,
                                  int64_t tokens, uint64_t seed) {
  TORCH_CHECK_VALUE(context >= 2 && tokens >= context,
                    "[calibration] expected at least one window of 2 or more tokens, got ", tokens,
                    " tokens in windows of ", context);
  std::mt19937_64 random(seed);
  struct Source {
    const std::vector<int64_t>* ids;
    std::vector<int64_t> order;
    size_t taken = 0;
  };
  std::vector<Source> sources;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto windows = static_cast<int64_t>(texts[i].size()) / context;
    TORCH_CHECK_VALUE(windows > 0, "[calibration] text ", i + 1, " has ", texts[i].size(),
                      " tokens; expected at least one window of ", context);
    sources.push_back({&texts[i], shuffled(windows, random)});
  }
  // One window from each text in turn, until there are enough.
  std::vector<torch::Tensor> rows;
  const int64_t wanted = tokens / context;
  for (bool more = true; more && std::cmp_less(rows.size(), wanted);) {
    more = false;
    for (Source& source : sources) {
      if (source.taken == source.order.size() || std::cmp_equal(rows.size(), wanted)) continue;
      const int64_t begin = source.order[source.taken++] * context;
      rows.push_back(torch::tensor(
          at::ArrayRef<int64_t>(source.ids->data() + begin, static_cast<size_t>(context)),
          torch::kInt64));
      more = true;
    }
  }
  TORCH_CHECK_VALUE(!rows.empty(), "[calibration] expected one text or more, got none");
  return at::stack(rows);
}

}  // namespace schmidt::calibrate
