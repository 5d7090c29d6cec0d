#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "schmidt/quant/format.h"
#include "schmidt/quant/plain.h"
#include "schmidt/quant/q2_k.h"
#include "schmidt/quant/q3_k.h"
#include "schmidt/quant/q4_0.h"
#include "schmidt/quant/q4_1.h"
#include "schmidt/quant/q4_k.h"
#include "schmidt/quant/q5_0.h"
#include "schmidt/quant/q5_1.h"
#include "schmidt/quant/q5_k.h"
#include "schmidt/quant/q6_k.h"
#include "schmidt/quant/q8_0.h"

namespace schmidt::quant {
namespace {

static_assert(std::endian::native == std::endian::little,
              "blocks are read as they lie in the file");

template <class Block>
void encode_blocks(const float* values, int64_t count, uint8_t* blocks) {
  for (int64_t i = 0; i < count; ++i) {
    const Block block = Block::encode(values + i * Block::kValues);
    std::memcpy(blocks + i * static_cast<int64_t>(sizeof block), &block, sizeof block);
  }
}

template <class Block>
void decode_blocks(const uint8_t* blocks, int64_t count, float* values) {
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < count; ++i) block[i].decode(values + i * Block::kValues);
}

template <class Block>
double dot_blocks(const uint8_t* blocks, int64_t count, const float* x) {
  const auto* block = reinterpret_cast<const Block*>(blocks);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += block[i].dot(x + i * Block::kValues);
  return sum;
}

template <class Block>
constexpr Format format(uint32_t ggml_type, std::string_view name) {
  static_assert(alignof(Block) == 1, "blocks lie at any address");
  return {ggml_type,
          name,
          Block::kValues,
          sizeof(Block),
          encode_blocks<Block>,
          decode_blocks<Block>,
          dot_blocks<Block>};
}

constexpr Format kFormats[] = {
    format<BlockF32>(0, "F32"),    format<BlockF16>(1, "F16"),    format<BlockBF16>(30, "BF16"),
    format<BlockQ4_0>(2, "Q4_0"),  format<BlockQ4_1>(3, "Q4_1"),  format<BlockQ5_0>(6, "Q5_0"),
    format<BlockQ5_1>(7, "Q5_1"),  format<BlockQ8_0>(8, "Q8_0"),  format<BlockQ2_K>(10, "Q2_K"),
    format<BlockQ3_K>(11, "Q3_K"), format<BlockQ4_K>(12, "Q4_K"), format<BlockQ5_K>(13, "Q5_K"),
    format<BlockQ6_K>(14, "Q6_K"),
};

template <class Key>
const Format* find(Key key, Key Format::*member) {
  const auto* found = std::ranges::find(kFormats, key, member);
  return found == std::end(kFormats) ? nullptr : found;
}

}  // namespace

std::span<const Format> formats() { return kFormats; }

const Format* find_format(uint32_t ggml_type) { return find(ggml_type, &Format::ggml_type); }

const Format* find_format(std::string_view name) { return find(name, &Format::name); }

std::string format_names() {
  std::string names;
  for (const Format& format : kFormats) {
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

}  // namespace schmidt::quant
