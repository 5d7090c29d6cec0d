#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "schmidt/kernels/cache_block.h"
#include "schmidt/model/cache_type.h"
#include "schmidt/model/config.h"
#include "schmidt/model/rope_table.h"

namespace schmidt::model {

struct CacheOptions {
  CacheType type = CacheType::kModel;
  /// Most blocks that all rows hold together; none: as many as fill every row.
  std::optional<int64_t> blocks = {};
  int64_t block_tokens = 64;  ///< tokens of a block, 1 or more
};

/// Keys and values of the tokens seen so far, for a batch of rows that grow independently of each
/// other. They lie in blocks of `block_tokens` tokens, which a row takes as it grows and gives
/// back as it is cut, so that memory follows the tokens held:
///
///   row 0:  [block a][block b][block c..]        rows that begin alike share blocks;
///   row 1:  [block a][block d..]                 one that writes into a shared block copies it
///
/// Movable, not copyable.
class KvCache {
 public:
  /// Room for `capacity` tokens in each of `batch` rows, all empty. `dtype` is the model's.
  /// Throws c10::ValueError unless 1 <= batch and 1 <= capacity <= max_positions, or for options
  /// out of range.
  KvCache(const ModelConfig& config, int64_t batch, int64_t capacity,
          torch::ScalarType dtype = torch::kFloat32, torch::Device device = torch::kCPU,
          const CacheOptions& options = {});
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

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

  /// Makes row `to` hold the first `tokens` tokens of row `from` and nothing else. Nothing is
  /// copied until one of them writes into the last block that they share.
  /// Throws c10::ValueError if a row does not exist or `from` is shorter.
  void share_prefix(int64_t from, int64_t to, int64_t tokens);

  /// Lets every row grow to `capacity` tokens. Throws c10::ValueError if that is less than now or
  /// more than max_positions, or where rows hold tokens whose angles would become others.
  void extend(int64_t capacity);

  /// How many more tokens a row may take: within its capacity, its last block and the blocks that
  /// nobody holds. Throws c10::ValueError if the row does not exist.
  int64_t room(int64_t row) const;

  /// Whether a step of so many more tokens in each row finds blocks for all of them.
  /// Throws c10::ValueError if there is not a number for each row.
  bool fits(const std::vector<int64_t>& tokens) const;

  int64_t block_tokens() const { return shape_.tokens; }
  /// Most blocks that all rows hold together, and how many nobody holds now.
  int64_t blocks() const { return blocks_; }
  int64_t free_blocks() const { return blocks_ - taken_; }

  /// Bytes of the blocks that rows hold, shared ones once.
  int64_t bytes() const { return taken_ * shape_.bytes(); }
  /// Bytes of one token's keys and values in all layers.
  int64_t bytes_per_token() const { return shape_.bytes() / shape_.tokens; }

  // For Model::step, which takes blocks, fills them layer by layer and then moves the lengths on.

  /// Takes the blocks of so many more tokens in each row, with copies of shared ones that a row
  /// will write into. Throws c10::ValueError, before it takes any, where fits() says no.
  void make_room(const std::vector<int64_t>& tokens);
  const std::vector<kernels::CacheRow>& rows() const { return rows_; }
  /// Whether what is read is what was written.
  bool keeps_all_bits() const { return shape_.dtype == dtype_; }
  torch::Device device() const { return device_; }
  /// Angles [tokens, r / 2] of a row's next tokens. With dynamic scaling they are those
  /// of the length that the row then has, while the keys before keep the angles of the step
  /// that wrote them, as in transformers: a whole sequence in one step gives the logits of
  /// Model::forward, and one in several steps does as long as it is within the original context.
  /// With longrope the capacity chooses: all rows of a cache for more than the original context
  /// turn by the long factors from their first token on.
  RopeTable next_rope(int64_t row, int64_t tokens) const;
  void advance(int64_t row, int64_t tokens) { lengths_[row] += tokens; }

 private:
  void check_row(int64_t row) const;
  int64_t blocks_of(int64_t tokens) const;  // that so many tokens fill or begin
  bool copies_on_write(int64_t row) const;
  int64_t new_blocks(const std::vector<int64_t>& tokens) const;
  void cut(int64_t row, int64_t blocks);

  int64_t capacity_ = 0;
  int64_t max_positions_;
  std::optional<int64_t> asked_blocks_;
  int64_t blocks_ = 0;
  int64_t taken_ = 0;  // blocks that rows hold
  kernels::CacheShape shape_;
  torch::ScalarType dtype_;  // the model's
  torch::Device device_;
  std::vector<int64_t> lengths_;
  std::vector<kernels::CacheRow> rows_;
  RopeConfig rope_config_;
  RopeTable rope_;  // of as many positions as have the same angles in every step
};

}  // namespace schmidt::model
