#include "schmidt/heal/batch.h"

#include <algorithm>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

namespace schmidt::heal {

int64_t Batch::trained() const { return (targets != kNoTarget).sum().item<int64_t>(); }

int64_t Batch::tokens() const { return (segments >= 0).sum().item<int64_t>(); }

Batch make_batch(const std::vector<std::vector<Example>>& rows, int64_t context) {
  TORCH_CHECK_VALUE(!rows.empty() && context >= 2,
                    "[make_batch] expected rows of 2 or more tokens, got ", rows.size(),
                    " rows of ", context);
  const auto height = static_cast<int64_t>(rows.size());
  Batch batch{at::zeros({height, context}, torch::kInt64),
              at::full({height, context}, -1, torch::kInt64),
              at::full({height, context}, kNoTarget, torch::kInt64)};
  for (int64_t r = 0; r < height; ++r) {
    auto* const ids = batch.ids.data_ptr<int64_t>() + r * context;
    auto* const segments = batch.segments.data_ptr<int64_t>() + r * context;
    auto* const targets = batch.targets.data_ptr<int64_t>() + r * context;
    int64_t at = 0, segment = 0;
    for (const Example& example : rows[r]) {
      const auto size = static_cast<int64_t>(example.ids.size());
      TORCH_CHECK_VALUE(at + size <= context, "[make_batch] expected rows of at most ", context,
                        " tokens, got ", at + size, " or more in row ", r);
      std::copy(example.ids.begin(), example.ids.end(), ids + at);
      std::fill_n(segments + at, size, segment++);
      for (int64_t t = 0; t + 1 < size; ++t) {
        if (example.trained[t + 1]) targets[at + t] = example.ids[t + 1];
      }
      at += size;
    }
  }
  return batch;
}

std::vector<size_t> best_fit(const std::vector<int64_t>& sizes, int64_t context) {
  TORCH_CHECK_VALUE(!sizes.empty() && sizes.front() <= context,
                    "[best_fit] expected a first size of at most ", context);
  std::vector<bool> taken(sizes.size());
  int64_t room = context;
  for (size_t best = 0; best < sizes.size();) {
    taken[best] = true;
    room -= sizes[best];
    best = sizes.size();
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (taken[i] || sizes[i] > room) continue;
      if (best == sizes.size() || sizes[i] > sizes[best]) best = i;
    }
  }
  std::vector<size_t> chosen;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (taken[i]) chosen.push_back(i);
  }
  return chosen;
}

}  // namespace schmidt::heal
