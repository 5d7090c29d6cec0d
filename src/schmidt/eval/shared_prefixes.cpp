#include "schmidt/eval/shared_prefixes.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "schmidt/model/step_plan.h"

namespace schmidt::eval {
namespace {

// Fewer tokens are computed again rather than copied.
constexpr int64_t kWorthACopy = 16;

}  // namespace

int64_t common_prefix(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  const auto shorter = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), a.begin() + shorter, b.begin()).first - a.begin();
}

SharedPrefixes::SharedPrefixes(const model::Model& model, int64_t rows, int64_t capacity)
    : model_(model), cache_(model.make_cache(rows, capacity)), held_(static_cast<size_t>(rows)) {}

// With dynamic scaling the angles of a text that is longer than the original context are those
// of its whole length.
bool SharedPrefixes::can_share(size_t tokens) const {
  const model::RopeConfig& rope = model_.config().rope;
  return rope.scaling != model::RopeScaling::kDynamic ||
         std::cmp_less_equal(tokens, rope.original_max_positions);
}

int64_t SharedPrefixes::common(int64_t row, const std::vector<int64_t>& ids,
                               int64_t at_most) const {
  const std::vector<int64_t>& held = held_[static_cast<size_t>(row)];
  if (!can_share(ids.size()) || !can_share(held.size())) return 0;
  return std::min(at_most, common_prefix(held, ids));
}

int64_t SharedPrefixes::held(const std::vector<int64_t>& ids, int64_t at_most) const {
  int64_t most = 0;
  for (int64_t row = 0; row < rows(); ++row) most = std::max(most, common(row, ids, at_most));
  return most;
}

int64_t SharedPrefixes::open(int64_t row, const std::vector<int64_t>& ids, int64_t at_most) {
  int64_t source = row;
  int64_t most = common(row, ids, at_most) + kWorthACopy;
  for (int64_t other = 0; other < rows(); ++other) {
    const int64_t shared = common(other, ids, at_most);
    if (other != row && shared > most) {
      source = other;
      most = shared;
    }
  }
  const int64_t kept = common(source, ids, at_most);
  if (source == row) {
    cache_.truncate(row, kept);
  } else {
    const auto copy = [&](const torch::Tensor& of_layer) {  // [rows, kv_heads, capacity, d]
      of_layer[row].narrow(1, 0, kept).copy_(of_layer[source].narrow(1, 0, kept));
    };
    for (int64_t layer = 0; layer < model_.num_blocks(); ++layer) {
      copy(cache_.keys(layer));
      copy(cache_.values(layer));
    }
    cache_.truncate(row, 0);
    cache_.advance(row, kept);
  }
  held_[static_cast<size_t>(row)].assign(ids.begin(), ids.begin() + kept);
  return kept;
}

torch::Tensor SharedPrefixes::run(const std::vector<std::vector<int64_t>>& next) {
  TORCH_CHECK_VALUE(std::cmp_equal(next.size(), rows()), "[prefixes] expected tokens for ", rows(),
                    " rows, got ", next.size());
  const at::NoGradGuard no_grad;
  size_t widest = 0;
  std::vector<int64_t> lengths;
  for (const std::vector<int64_t>& tokens : next) {
    widest = std::max(widest, tokens.size());
    lengths.push_back(static_cast<int64_t>(tokens.size()));
  }
  const torch::Tensor ids = at::zeros({rows(), static_cast<int64_t>(widest)}, at::kLong);
  for (size_t row = 0; row < next.size(); ++row) {
    std::copy(next[row].begin(), next[row].end(), ids.mutable_data_ptr<int64_t>() + row * widest);
    held_[row].insert(held_[row].end(), next[row].begin(), next[row].end());
  }
  const model::StepPlan plan = model::plan_step(ids, lengths, cache_);
  TORCH_CHECK_VALUE(!plan.spans.empty(), "[prefixes] expected a token or more, got none");
  torch::Tensor h = model_.embed(plan.ids);
  for (int64_t block = 0; block < model_.num_blocks(); ++block) {
    h = model_.block(block).step(h, plan, cache_);
  }
  for (const auto& span : plan.spans) cache_.advance(span.row, span.length);
  return model_.final_norm(h);
}

}  // namespace schmidt::eval
