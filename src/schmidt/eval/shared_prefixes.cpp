#include "schmidt/eval/shared_prefixes.h"

#include <algorithm>

#include <ATen/ops/zeros.h>

namespace schmidt::eval {

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
  int64_t kept = common(row, ids, at_most);
  for (int64_t other = 0; other < rows(); ++other) {
    const int64_t shared = common(other, ids, at_most);
    if (shared > kept) {
      source = other;
      kept = shared;
    }
  }
  cache_.share_prefix(source, row, kept);
  held_[static_cast<size_t>(row)].assign(ids.begin(), ids.begin() + kept);
  return kept;
}

torch::Tensor SharedPrefixes::run(const std::vector<std::vector<int64_t>>& next,
                                  const std::vector<int64_t>& wanted) {
  TORCH_CHECK_VALUE(std::cmp_equal(next.size(), rows()), "[prefixes] expected tokens for ", rows(),
                    " rows, got ", next.size());
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
  return model_.step_states(ids, lengths, wanted, cache_);
}

}  // namespace schmidt::eval
