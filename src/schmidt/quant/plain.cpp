#include "schmidt/quant/plain.h"

#include <bit>

#include <c10/util/BFloat16.h>

namespace schmidt::quant {
namespace {

template <class Block>
double product(const Block& block, const float* x) {
  float value;
  block.decode(&value);
  return static_cast<double>(value) * static_cast<double>(*x);
}

}  // namespace

BlockF32 BlockF32::encode(const float* values) {
  return {Bits32::of(std::bit_cast<uint32_t>(*values))};
}
void BlockF32::decode(float* values) const { *values = std::bit_cast<float>(bits.value()); }
double BlockF32::dot(const float* x) const { return product(*this, x); }

BlockF16 BlockF16::encode(const float* values) { return {Float16::of(*values)}; }
void BlockF16::decode(float* values) const { *values = value.value(); }
double BlockF16::dot(const float* x) const { return product(*this, x); }

BlockBF16 BlockBF16::encode(const float* values) {
  const uint16_t bits = c10::detail::round_to_nearest_even(*values);
  BlockBF16 block;
  std::memcpy(block.bytes, &bits, sizeof bits);
  return block;
}
void BlockBF16::decode(float* values) const {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  *values = c10::detail::f32_from_bits(bits);
}
double BlockBF16::dot(const float* x) const { return product(*this, x); }

}  // namespace schmidt::quant
