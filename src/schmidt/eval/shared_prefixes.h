#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/model.h"

namespace schmidt::eval {

/// Rows of a KV cache that go from one text to another and keep what the next one begins with:
/// worked examples that many questions share, and a question before each of its choices, are
/// computed once.
///
///   row 0:  [examples][question 1][choice A]  ->  [examples][question 1][choice B]  -> ..
///   row 1:  [examples, shared][question 2][choice A]  -> ..
///
/// The model must outlive it.
class SharedPrefixes {
 public:
  /// Throws c10::ValueError as model::KvCache.
  SharedPrefixes(const model::Model& model, int64_t rows, int64_t capacity);

  int64_t rows() const { return cache_.batch(); }
  int64_t capacity() const { return cache_.capacity(); }

  /// How many of the first `at_most` tokens of `ids` some row holds.
  int64_t held(const std::vector<int64_t>& ids, int64_t at_most) const;

  /// Makes a row hold as many of the first `at_most` tokens of `ids` as any row does, by
  /// forgetting or sharing, and nothing else; -> how many.
  int64_t open(int64_t row, const std::vector<int64_t>& ids, int64_t at_most);

  /// Appends tokens to the rows, none to some of them; -> states after the final norm of each
  /// row's last `wanted` tokens, row after row [sum of wanted, hidden]. Records no gradient.
  torch::Tensor run(const std::vector<std::vector<int64_t>>& next,
                    const std::vector<int64_t>& wanted);

 private:
  int64_t common(int64_t row, const std::vector<int64_t>& ids, int64_t at_most) const;
  bool can_share(size_t tokens) const;

  const model::Model& model_;
  model::KvCache cache_;
  std::vector<std::vector<int64_t>> held_;  // of each row
};

/// How many tokens two texts begin with in common.
int64_t common_prefix(const std::vector<int64_t>& a, const std::vector<int64_t>& b);

}  // namespace schmidt::eval
