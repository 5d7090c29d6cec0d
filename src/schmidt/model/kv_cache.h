#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/config.h"
#include "schmidt/model/rope_table.h"

namespace schmidt::model {

/// Keys and values of the tokens seen so far, for a batch of rows that grow
/// independently of each other. Memory is reserved whole but touched as rows grow.
class KvCache {
 public:
  /// Room for `capacity` tokens in each of `batch` rows, all empty.
  /// Throws c10::ValueError unless 1 <= batch and 1 <= capacity <= max_positions.
  KvCache(const ModelConfig& config, int64_t batch, int64_t capacity,
          torch::ScalarType dtype = torch::kFloat32, torch::Device device = torch::kCPU);

  int64_t batch() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t capacity() const { return capacity_; }

  /// Tokens held in each row; the next one gets this position.
  const std::vector<int64_t>& lengths() const { return lengths_; }

  /// Forgets all tokens of a row from `length` on, so that the row can be
  /// continued differently, or used for another sequence with length 0.
  /// Throws c10::ValueError if the row does not exist or is shorter.
  void truncate(int64_t row, int64_t length);

  /// Forgets everything.
  void reset();

  /// Bytes reserved for keys and values.
  int64_t bytes() const;

  // For Model::step, which fills a layer's memory and then moves the lengths on.
  const torch::Tensor& keys(int64_t layer) const { return keys_[layer]; }  // [batch, kv_heads,
  const torch::Tensor& values(int64_t layer) const {
    return values_[layer];
  }  // capacity, head_dim]
  /// Angles [tokens, head_dim / 2] of a row's next tokens. With dynamic scaling they are those
  /// of the length that the row then has, while the keys before keep the angles of the step
  /// that wrote them, as in transformers: a whole sequence in one step gives the logits of
  /// Model::forward, and one in several steps does as long as it is within the original context.
  RopeTable next_rope(int64_t row, int64_t tokens) const;
  void advance(int64_t row, int64_t tokens) { lengths_[row] += tokens; }

 private:
  int64_t capacity_;
  std::vector<int64_t> lengths_;
  std::vector<torch::Tensor> keys_;
  std::vector<torch::Tensor> values_;
  RopeConfig rope_config_;
  int64_t head_dim_;
  RopeTable rope_;  // of as many positions as have the same angles in every step
};

}  // namespace schmidt::model
