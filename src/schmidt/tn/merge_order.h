#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

/// A table over spans begin .. end of a chain of K cores, 0 <= begin < end <= K.
template <typename T>
class SpanTable {
 public:
  SpanTable(int64_t sites, T value) : width_(sites + 1), values_(width_ * width_, value) {}
  T& at(int64_t begin, int64_t end) { return values_[begin * width_ + end]; }
  const T& at(int64_t begin, int64_t end) const { return values_[begin * width_ + end]; }

 private:
  int64_t width_;
  std::vector<T> values_;
};

/// The chain's dimensions, as floating-point numbers: costs of hostile shapes must
/// not overflow.
struct Chain {
  std::vector<double> bond;         // r_0 .. r_K
  std::vector<double> out_product;  // of the first k output dimensions
  std::vector<double> in_product;

  int64_t sites() const { return static_cast<int64_t>(bond.size()) - 1; }
  double out(int64_t begin, int64_t end) const { return out_product[end] / out_product[begin]; }
  double in(int64_t begin, int64_t end) const { return in_product[end] / in_product[begin]; }
  double legs(int64_t begin, int64_t end) const { return out(begin, end) * in(begin, end); }
};

Chain chain_of(const SiteShape& shape, const std::vector<int64_t>& bonds);
Chain chain_of(const std::vector<torch::Tensor>& cores);

/// How to contract the cores of a span with each other at the least cost.
struct MergeOrder {
  SpanTable<double> cost;    ///< multiplications to make the span one core
  SpanTable<int64_t> split;  ///< where its last contraction joins two spans
};

/// The classic matrix-chain recursion, O(K^3).
MergeOrder merge_order(const Chain& chain);

}  // namespace schmidt::tn
