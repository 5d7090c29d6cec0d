#include "schmidt/model/kv_cache.h"

#include <algorithm>
#include <map>

namespace schmidt::model {
namespace {

torch::ScalarType stored_dtype(CacheType type, torch::ScalarType model) {
  switch (type) {
    case CacheType::kModel:
      return model;
    case CacheType::kBfloat16:
      return torch::kBFloat16;
    case CacheType::kInt8:
      return torch::kChar;
  }
  TORCH_INTERNAL_ASSERT(false, "unknown cache type");
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t batch, int64_t capacity,
                 torch::ScalarType dtype, torch::Device device, const CacheOptions& options)
    : max_positions_(config.max_positions),
      asked_blocks_(options.blocks),
      shape_{config.num_layers, config.num_kv_heads, options.block_tokens, config.head_dim,
             stored_dtype(options.type, dtype)},
      dtype_(dtype),
      device_(device),
      rope_config_(config.rope) {
  TORCH_CHECK_VALUE(batch >= 1, "[cache] expected one row or more, got ", batch);
  TORCH_CHECK_VALUE(options.block_tokens >= 1, "[cache] expected blocks of a token or more, got ",
                    options.block_tokens);
  TORCH_CHECK_VALUE(options.blocks.value_or(1) >= 1, "[cache] expected a block or more, got ",
                    *options.blocks);
  lengths_.assign(batch, 0);
  rows_.resize(batch);
  extend(capacity);
}

void KvCache::extend(int64_t capacity) {
  const int64_t least = std::max<int64_t>(1, capacity_);
  TORCH_CHECK_VALUE(capacity >= least && capacity <= max_positions_,
                    "[cache] expected a capacity in [", least, ", ", max_positions_,
                    "], the model's context, got ", capacity);
  const bool other_angles = rope_config_.scaling == RopeScaling::kLongRope &&
                            capacity > rope_config_.original_max_positions &&
                            capacity_ <= rope_config_.original_max_positions;
  TORCH_CHECK_VALUE(!other_angles || taken_ == 0, "[cache] expected a capacity up to ",
                    rope_config_.original_max_positions,
                    " while rows hold tokens: longer texts turn by the long factors from their "
                    "beginning, got ",
                    capacity);
  const bool grows = rope_config_.scaling == RopeScaling::kDynamic;
  const int64_t positions =
      grows ? std::min(capacity, rope_config_.original_max_positions) : capacity;
  if (!rope_.cos.defined() || positions > rope_.positions()) {
    rope_ = rope_table_end(rope_config_, shape_.d, 0, positions, device_);
  }
  capacity_ = capacity;
  blocks_ = asked_blocks_.value_or(batch() * blocks_of(capacity));
}

RopeTable KvCache::next_rope(int64_t row, int64_t tokens) const {
  const int64_t past = lengths_[row];
  if (past + tokens > rope_.positions()) {
    return rope_table_end(rope_config_, shape_.d, past, tokens, device_);
  }
  return rope_.narrow(past, tokens);
}

int64_t KvCache::blocks_of(int64_t tokens) const {
  return tokens / shape_.tokens + (tokens % shape_.tokens == 0 ? 0 : 1);
}

void KvCache::check_row(int64_t row) const {
  TORCH_CHECK_VALUE(row >= 0 && row < batch(), "[cache] expected a row in [0, ", batch(), "), got ",
                    row);
}

void KvCache::truncate(int64_t row, int64_t length) {
  check_row(row);
  TORCH_CHECK_VALUE(length >= 0 && length <= lengths_[row], "[cache] expected a length in [0, ",
                    lengths_[row], "], got ", length);
  lengths_[row] = length;
  cut(row, blocks_of(length));
}

void KvCache::reset() {
  for (int64_t row = 0; row < batch(); ++row) truncate(row, 0);
}

void KvCache::cut(int64_t row, int64_t blocks) {
  kernels::CacheRow& held = rows_[row];
  while (std::cmp_greater(held.size(), blocks)) {
    if (held.back().use_count() == 1) --taken_;
    held.pop_back();
  }
}

void KvCache::share_prefix(int64_t from, int64_t to, int64_t tokens) {
  check_row(from);
  check_row(to);
  TORCH_CHECK_VALUE(tokens >= 0 && tokens <= lengths_[from], "[cache] expected up to ",
                    lengths_[from], " tokens of row ", from, " to share, got ", tokens);
  if (from != to) {
    cut(to, 0);
    rows_[to].assign(rows_[from].begin(), rows_[from].begin() + blocks_of(tokens));
    lengths_[to] = tokens;
  }
  truncate(to, tokens);
}

bool KvCache::copies_on_write(int64_t row) const {
  const auto first = static_cast<size_t>(lengths_[row] / shape_.tokens);
  return first < rows_[row].size() && rows_[row][first].use_count() > 1;
}

int64_t KvCache::room(int64_t row) const {
  check_row(row);
  const auto held = static_cast<int64_t>(rows_[row].size());
  const bool copies = copies_on_write(row);
  if (copies && free_blocks() == 0) return 0;
  const int64_t within = (held + free_blocks() - (copies ? 1 : 0)) * shape_.tokens;
  return std::min(capacity_, within) - lengths_[row];
}

int64_t KvCache::new_blocks(const std::vector<int64_t>& tokens) const {
  TORCH_CHECK_VALUE(std::cmp_equal(tokens.size(), batch()), "[cache] expected ", batch(),
                    " numbers of tokens, got ", tokens.size());
  int64_t needed = 0;
  std::map<const kernels::CacheBlock*, int64_t> writers;  // of shared blocks
  for (int64_t row = 0; row < batch(); ++row) {
    if (tokens[row] == 0) continue;
    const auto held = static_cast<int64_t>(rows_[row].size());
    needed += std::max<int64_t>(0, blocks_of(lengths_[row] + tokens[row]) - held);
    if (!copies_on_write(row)) continue;
    const auto& shared = rows_[row][lengths_[row] / shape_.tokens];
    // The last that holds it needs no copy.
    if (++writers[shared.get()] < shared.use_count()) ++needed;
  }
  return needed;
}

bool KvCache::fits(const std::vector<int64_t>& tokens) const {
  return new_blocks(tokens) <= free_blocks();
}

void KvCache::make_room(const std::vector<int64_t>& tokens) {
  const int64_t needed = new_blocks(tokens);
  TORCH_CHECK_VALUE(needed <= free_blocks(), "[cache] expected a step that needs at most ",
                    free_blocks(), " more of the cache's ", blocks_, " blocks of ", shape_.tokens,
                    " tokens, got one that needs ", needed);
  for (int64_t row = 0; row < batch(); ++row) {
    if (tokens[row] == 0) continue;
    kernels::CacheRow& held = rows_[row];
    if (copies_on_write(row)) {
      std::shared_ptr<kernels::CacheBlock>& shared = held[lengths_[row] / shape_.tokens];
      shared = kernels::copy_of(*shared);
      ++taken_;
    }
    while (std::cmp_less(held.size(), blocks_of(lengths_[row] + tokens[row]))) {
      held.push_back(kernels::make_cache_block(shape_, device_));
      ++taken_;
    }
  }
}

}  // namespace schmidt::model
