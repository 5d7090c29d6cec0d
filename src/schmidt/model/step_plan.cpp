#include "schmidt/model/step_plan.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

namespace schmidt::model {
namespace {

// Up to here, attention token by token beats one blocked call for each row.
constexpr int64_t kShortSpan = 8;

}  // namespace

StepPlan plan_step(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                   const KvCache& cache) {
  TORCH_CHECK_VALUE(
      ids.dim() == 2 && ids.size(0) == cache.batch() && ids.scalar_type() == torch::kInt64,
      "[step] expected int64 ids [", cache.batch(), ", t], got ", ids.scalar_type(), " ",
      ids.sizes());
  TORCH_CHECK_VALUE(std::cmp_equal(lengths.size(), cache.batch()), "[step] expected ",
                    cache.batch(), " lengths, got ", lengths.size());
  StepPlan plan;
  std::vector<torch::Tensor> ids_of_runs;
  std::vector<RopeTable> ropes;
  std::vector<int64_t> single_tokens;
  int64_t count = 0;
  for (int64_t row = 0; row < cache.batch(); ++row) {
    const int64_t length = lengths[row];
    const int64_t past = cache.lengths()[row];
    TORCH_CHECK_VALUE(length >= 0 && length <= ids.size(1), "[step] expected a length in [0, ",
                      ids.size(1), "] for row ", row, ", got ", length);
    TORCH_CHECK_VALUE(past + length <= cache.capacity(), "[step] expected at most ",
                      cache.capacity() - past, " more tokens in row ", row, " of the cache, got ",
                      length);
    if (length == 0) continue;
    plan.spans.push_back({row, count, length, past});
    ids_of_runs.push_back(ids[row].narrow(0, 0, length));
    ropes.push_back(cache.next_rope(row, length));
    if (length <= kShortSpan && cache.device().is_cpu()) {
      for (int64_t i = 0; i < length; ++i) {
        plan.queries.rows.push_back(row);
        plan.queries.positions.push_back(past + i);
        single_tokens.push_back(count + i);
      }
    } else {
      (past == 0 ? plan.beginnings : plan.continuations).push_back(plan.spans.back());
    }
    count += length;
  }
  if (count == 0) return plan;
  if (std::cmp_less(single_tokens.size(), count)) {
    plan.single_tokens = at::tensor(single_tokens, torch::kInt64).to(cache.device());
  }
  plan.ids = ids_of_runs.size() == 1 ? ids_of_runs.front() : at::cat(ids_of_runs);
  plan.rope = concatenate(ropes);
  return plan;
}

}  // namespace schmidt::model
