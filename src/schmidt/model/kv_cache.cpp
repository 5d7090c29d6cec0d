#include "schmidt/model/kv_cache.h"

#include <algorithm>

#include <ATen/ops/empty.h>

namespace schmidt::model {

KvCache::KvCache(const ModelConfig& config, int64_t batch, int64_t capacity,
                 torch::ScalarType dtype, torch::Device device)
    : capacity_(capacity), rope_config_(config.rope), head_dim_(config.head_dim) {
  TORCH_CHECK_VALUE(batch >= 1, "[cache] expected one row or more, got ", batch);
  TORCH_CHECK_VALUE(capacity >= 1 && capacity <= config.max_positions,
                    "[cache] expected a capacity in [1, ", config.max_positions,
                    "], the model's context, got ", capacity);
  lengths_.assign(batch, 0);
  const auto options = torch::TensorOptions().dtype(dtype).device(device);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    keys_.push_back(at::empty({batch, config.num_kv_heads, capacity, config.head_dim}, options));
    values_.push_back(at::empty_like(keys_.back()));
  }
  const bool grows = config.rope.scaling == RopeScaling::kDynamic;
  rope_ = rope_table(
      config, grows ? std::min(capacity, config.rope.original_max_positions) : capacity, device);
}

RopeTable KvCache::next_rope(int64_t row, int64_t tokens) const {
  const int64_t past = lengths_[row];
  if (past + tokens > rope_.cos.size(0)) {
    return rope_table_end(rope_config_, head_dim_, past, tokens, rope_.cos.device());
  }
  return {rope_.cos.narrow(0, past, tokens), rope_.sin.narrow(0, past, tokens)};
}

void KvCache::truncate(int64_t row, int64_t length) {
  TORCH_CHECK_VALUE(row >= 0 && row < batch(), "[cache] expected a row in [0, ", batch(), "), got ",
                    row);
  TORCH_CHECK_VALUE(length >= 0 && length <= lengths_[row], "[cache] expected a length in [0, ",
                    lengths_[row], "], got ", length);
  lengths_[row] = length;
}

void KvCache::reset() { lengths_.assign(lengths_.size(), 0); }

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const torch::Tensor& keys : keys_) total += 2 * keys.nbytes();
  return total;
}

}  // namespace schmidt::model
