#include "schmidt/kernels/cache_block.h"

#include <algorithm>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "schmidt/kernels/cache_memory.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/held_type.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

constexpr float kLargestCode = 127.0F;
// Scales below count as zero: their reciprocals would overflow.
constexpr float kLeastScale = 0x1p-100F;

// A head's d numbers as they are kept. -> the scale of its codes, where there are codes.
template <typename T, typename C>
SCHMIDT_INLINE_LOOP float keep(const T* from, C* to, int64_t d) {
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) to[i] = narrow<C>(widen(from[i]));
  return 0.0F;
}

template <typename T>
SCHMIDT_INLINE_LOOP float keep(const T* from, int8_t* to, int64_t d) {
  // Magnitudes are compared as integers, where NaN and infinity lie above all others.
  uint32_t largest_bits = 0;
#pragma omp simd reduction(max : largest_bits)
  for (int64_t i = 0; i < d; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(widen(from[i])) & 0x7fffffffU;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  const bool finite = largest_bits < 0x7f800000U;
  const float scale = finite ? std::bit_cast<float>(largest_bits) / kLargestCode : 0.0F;
  const bool counts = scale >= kLeastScale;
  const float inverse = counts ? 1.0F / scale : 0.0F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  if (counts) {
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) {
      to[i] =
          static_cast<int8_t>(static_cast<int32_t>((widen(from[i]) * inverse + kRound) - kRound));
    }
  } else {
    for (int64_t i = 0; i < d; ++i) to[i] = 0;
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  return counts ? scale : 0.0F;
}

// Neighbouring tokens that go to one block.
template <typename T, typename C>
struct StoreTask {
  const T* from;  // [count, kv_heads, d], `stride` numbers from token to token
  C* to;          // of the first token's place: [kv_heads, tokens, d], or where keys lie
                  // [kv_heads, d, tokens]
  float* scales;  // [kv_heads, tokens], the same
  C* buffer;      // [d]
  bool keys;
  int64_t stride, count, kv_heads, tokens, d;
};

template <typename T, typename C>
struct Store {
  SCHMIDT_INLINE_LOOP static void run(const StoreTask<T, C>* task) {
    const StoreTask<T, C> t = *task;
    for (int64_t head = 0; head < t.kv_heads; ++head) {
      C* const of_head = t.to + head * t.tokens * t.d;
      for (int64_t token = 0; token < t.count; ++token) {
        C* const together = t.keys ? t.buffer : of_head + token * t.d;
        const float scale = keep(t.from + token * t.stride + head * t.d, together, t.d);
        if (t.scales != nullptr) t.scales[head * t.tokens + token] = scale;
        if (!t.keys) continue;
        for (int64_t i = 0; i < t.d; ++i) of_head[i * t.tokens + token] = together[i];
      }
    }
  }
};

int64_t tokens_of(const CacheRow& row) { return row.front()->values.size(2); }

void check_row(const CacheRow& row, int64_t layer, int64_t first, int64_t n) {
  const int64_t tokens = row.empty() ? 0 : tokens_of(row);
  TORCH_CHECK_VALUE(first >= 0 && n >= 0 && first + n <= tokens * static_cast<int64_t>(row.size()),
                    "[cache] expected positions within ", row.size(), " blocks of ", tokens,
                    " tokens, got ", n, " from ", first, " on");
  TORCH_CHECK_VALUE(row.empty() || (layer >= 0 && layer < row.front()->values.size(0)),
                    "[cache] expected a layer that the blocks have, got ", layer);
}

void check_stored(const torch::Tensor& keys, const torch::Tensor& values, const CacheRow& row,
                  int64_t layer, int64_t first) {
  TORCH_CHECK_VALUE(keys.dim() == 3 && keys.sizes() == values.sizes() &&
                        keys.scalar_type() == values.scalar_type(),
                    "[cache] expected keys and values [n, kv_heads, d], got ", keys.sizes(),
                    " and ", values.sizes());
  check_row(row, layer, first, keys.size(0));
  if (row.empty()) return;
  const torch::Tensor& held = row.front()->values;
  TORCH_CHECK_VALUE(keys.size(1) == held.size(1) && keys.size(2) == held.size(3),
                    "[cache] expected keys [n, ", held.size(1), ", ", held.size(3),
                    "], as the blocks have them, got ", keys.sizes());
}

// The part of a range of positions that lies in one block.
struct Piece {
  size_t block;
  int64_t offset;  // in the block
  int64_t begin;   // in the range
  int64_t count;
};

Piece piece_at(int64_t first, int64_t n, int64_t begin, int64_t tokens) {
  const int64_t position = first + begin;
  const int64_t offset = position % tokens;
  return {static_cast<size_t>(position / tokens), offset, begin,
          std::min(n - begin, tokens - offset)};
}

enum class Half { kKeys, kValues };

template <typename T, typename C>
void store_all(const torch::Tensor& x, Half half, const CacheRow& row, int64_t layer,
               int64_t first) {
  const int64_t n = x.size(0), kv_heads = x.size(1), d = x.size(2), tokens = tokens_of(row);
  const bool keys = half == Half::kKeys;
  const int64_t grain = std::max<int64_t>(1, kGrain / (kv_heads * d));
  at::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
    std::vector<C> buffer(keys ? d : 0);
    while (begin < end) {
      const Piece piece = piece_at(first, end, begin, tokens);
      const CacheBlock& block = *row[piece.block];
      const torch::Tensor& numbers = keys ? block.keys : block.values;
      const torch::Tensor& scales = keys ? block.key_scales : block.value_scales;
      const StoreTask<T, C> task = {x.const_data_ptr<T>() + begin * x.stride(0),
                                    static_cast<C*>(numbers.mutable_data_ptr()) +
                                        layer * numbers.stride(0) + piece.offset * (keys ? 1 : d),
                                    scales.defined() ? scales.mutable_data_ptr<float>() +
                                                           layer * scales.stride(0) + piece.offset
                                                     : nullptr,
                                    buffer.data(),
                                    keys,
                                    x.stride(0),
                                    piece.count,
                                    kv_heads,
                                    tokens,
                                    d};
      run_fastest<Store<T, C>>(&task);
      begin += piece.count;
    }
  });
}

template <typename T>
void store_as(const torch::Tensor& x, Half half, const CacheRow& row, int64_t layer,
              int64_t first) {
  with_held_type(row.front()->values.scalar_type(),
                 [&]<typename C>(C* /*type*/) { store_all<T, C>(x, half, row, layer, first); });
}

template <typename T>
void store_one(const CacheMemory& memory, int64_t layer, int64_t row, int64_t position,
               int64_t kv_head, const T* key, const T* value) {
  const CacheMemory::Block& block = memory.blocks(row)[position / memory.tokens];
  const int64_t offset = position % memory.tokens, d = memory.d;
  const int64_t of_head = layer * memory.numbers_of_layer() + kv_head * memory.tokens * d;
  const int64_t scale = layer * memory.scales_of_layer() + kv_head * memory.tokens + offset;
  with_held_type(memory.dtype, [&]<typename C>(C* /*type*/) {
    thread_local std::vector<C> buffer;
    buffer.resize(d);
    const auto store = [&](const T* from, void* to, int64_t place, float* scales, bool keys) {
      const StoreTask<T, C> task = {from,
                                    static_cast<C*>(to) + of_head + place,
                                    scales == nullptr ? nullptr : scales + scale,
                                    buffer.data(),
                                    keys,
                                    d,
                                    1,
                                    1,
                                    memory.tokens,
                                    d};
      run_fastest<Store<T, C>>(&task);
    };
    store(key, block.keys, offset, block.key_scales, true);
    store(value, block.values, offset * d, block.value_scales, false);
  });
}

// Views of what a block holds at some of its tokens in one layer.
struct Held {
  torch::Tensor keys, values;              // [count, kv_heads, d]
  torch::Tensor key_scales, value_scales;  // [count, kv_heads, 1]
};

Held held_at(const CacheRow& row, const Piece& piece, int64_t layer) {
  const CacheBlock& block = *row[piece.block];
  const auto scales = [&](const torch::Tensor& all) {
    if (!all.defined()) return all;
    return all[layer].narrow(1, piece.offset, piece.count).transpose(0, 1).unsqueeze(-1);
  };
  return {block.keys[layer].narrow(2, piece.offset, piece.count).permute({2, 0, 1}),
          block.values[layer].narrow(1, piece.offset, piece.count).transpose(0, 1),
          scales(block.key_scales), scales(block.value_scales)};
}

// x [count, kv_heads, d] into numbers of the same shape and scales [count, kv_heads, 1].
void keep_reference(const torch::Tensor& x, const torch::Tensor& numbers,
                    const torch::Tensor& scales) {
  if (!scales.defined()) {
    numbers.copy_(x);
    return;
  }
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor largest = wide.abs().amax(-1, /*keepdim=*/true);
  torch::Tensor scale = largest / kLargestCode;
  const torch::Tensor counts = scale.ge(kLeastScale).logical_and(largest.isfinite());
  scale = at::where(counts, scale, at::zeros_like(scale));
  const torch::Tensor codes = wide * at::where(counts, scale.reciprocal(), scale);
  numbers.copy_(at::where(counts, codes.round(), at::zeros_like(codes)));
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  scales.copy_(at::where(largest.isfinite(), scale, at::full_like(scale, nan)));
}

}  // namespace

int64_t CacheShape::bytes() const {
  const int64_t vectors = layers * 2 * kv_heads * tokens;
  const int64_t scale = dtype == torch::kChar ? static_cast<int64_t>(sizeof(float)) : 0;
  return vectors * (d * static_cast<int64_t>(torch::elementSize(dtype)) + scale);
}

std::shared_ptr<CacheBlock> make_cache_block(const CacheShape& shape, torch::Device device) {
  const auto [layers, kv_heads, tokens, d, dtype] = shape;
  TORCH_CHECK_VALUE(dtype == torch::kFloat32 || dtype == torch::kBFloat16 || dtype == torch::kChar,
                    "[cache] expected float32, bfloat16 or int8, got ", dtype);
  const auto options = torch::TensorOptions().device(device);
  CacheBlock block;
  block.keys = at::empty({layers, kv_heads, d, tokens}, options.dtype(dtype));
  block.values = at::empty({layers, kv_heads, tokens, d}, options.dtype(dtype));
  if (dtype == torch::kChar) {
    block.key_scales = at::empty({layers, kv_heads, tokens}, options.dtype(torch::kFloat32));
    block.value_scales = at::empty_like(block.key_scales);
  }
  return std::make_shared<CacheBlock>(std::move(block));
}

std::shared_ptr<CacheBlock> copy_of(const CacheBlock& block) {
  const auto copied = [](const torch::Tensor& x) { return x.defined() ? x.clone() : x; };
  return std::make_shared<CacheBlock>(CacheBlock{copied(block.keys), copied(block.values),
                                                 copied(block.key_scales),
                                                 copied(block.value_scales)});
}

void store_in_cache_reference(const torch::Tensor& keys, const torch::Tensor& values,
                              const CacheRow& row, int64_t layer, int64_t first) {
  check_stored(keys, values, row, layer, first);
  const int64_t n = keys.size(0);
  for (int64_t begin = 0; begin < n;) {
    const Piece piece = piece_at(first, n, begin, tokens_of(row));
    const Held held = held_at(row, piece, layer);
    keep_reference(keys.narrow(0, begin, piece.count), held.keys, held.key_scales);
    keep_reference(values.narrow(0, begin, piece.count), held.values, held.value_scales);
    begin += piece.count;
  }
}

void store_in_cache(const torch::Tensor& keys, const torch::Tensor& values, const CacheRow& row,
                    int64_t layer, int64_t first) {
  check_stored(keys, values, row, layer, first);
  if (keys.numel() == 0) return;
  if (!fast_path({&keys, &values}) || !row.front()->values.is_cpu()) {
    store_in_cache_reference(keys, values, row, layer, first);
    return;
  }
  const auto by_token = [](const torch::Tensor& x) {
    return x.stride(2) == 1 && x.stride(1) == x.size(2) ? x : x.contiguous();
  };
  with_fast_type(keys.scalar_type(), [&]<typename T>(T*) {
    store_as<T>(by_token(keys), Half::kKeys, row, layer, first);
    store_as<T>(by_token(values), Half::kValues, row, layer, first);
  });
}

void CacheMemory::look_up(const std::vector<CacheRow>& rows, const std::vector<int64_t>& wanted) {
  if (rows_.size() < rows.size()) rows_.resize(rows.size());
  for (std::vector<Block>& blocks : rows_) blocks.clear();
  for (const int64_t row : wanted) {
    TORCH_CHECK_VALUE(row >= 0 && std::cmp_less(row, rows.size()) && !rows[row].empty(),
                      "[cache] expected a row below ", rows.size(), " with a block, got ", row);
    std::vector<Block>& blocks = rows_[row];
    if (!blocks.empty()) continue;
    const torch::Tensor& like = rows[row].front()->values;
    kv_heads = like.size(1);
    tokens = like.size(2);
    d = like.size(3);
    dtype = like.scalar_type();
    const auto scales = [](const torch::Tensor& all) {
      return all.defined() ? all.mutable_data_ptr<float>() : nullptr;
    };
    for (const auto& block : rows[row]) {
      blocks.push_back({block->keys.mutable_data_ptr(), block->values.mutable_data_ptr(),
                        scales(block->key_scales), scales(block->value_scales)});
    }
  }
}

void store_head(const CacheMemory& memory, int64_t layer, int64_t row, int64_t position,
                int64_t kv_head, const float* key, const float* value) {
  store_one(memory, layer, row, position, kv_head, key, value);
}
void store_head(const CacheMemory& memory, int64_t layer, int64_t row, int64_t position,
                int64_t kv_head, const c10::BFloat16* key, const c10::BFloat16* value) {
  store_one(memory, layer, row, position, kv_head, key, value);
}

KeysAndValues gather_from_cache(const CacheRow& row, int64_t layer, int64_t first, int64_t n,
                                torch::ScalarType dtype) {
  check_row(row, layer, first, n);
  TORCH_CHECK_VALUE(!row.empty(), "[cache] expected a row with a block, got none");
  const torch::Tensor& like = row.front()->values;
  KeysAndValues gathered;
  gathered.keys = at::empty({n, like.size(1), like.size(3)}, like.options().dtype(dtype));
  gathered.values = at::empty_like(gathered.keys);
  for (int64_t begin = 0; begin < n;) {
    const Piece piece = piece_at(first, n, begin, tokens_of(row));
    const Held held = held_at(row, piece, layer);
    const auto put = [&](const torch::Tensor& all, const torch::Tensor& numbers,
                         const torch::Tensor& scales) {
      const torch::Tensor to = all.narrow(0, begin, piece.count);
      to.copy_(numbers);
      if (scales.defined()) to.mul_(scales);
    };
    put(gathered.keys, held.keys, held.key_scales);
    put(gathered.values, held.values, held.value_scales);
    begin += piece.count;
  }
  return gathered;
}

}  // namespace schmidt::kernels
