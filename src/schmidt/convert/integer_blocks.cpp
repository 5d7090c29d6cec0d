#include "schmidt/convert/integer_blocks.h"

#include <cstring>

#include <ATen/ops/isfinite.h>
#include <c10/util/Exception.h>

#include "schmidt/quant/q4_0.h"
#include "schmidt/quant/q4_1.h"
#include "schmidt/quant/q5_0.h"
#include "schmidt/quant/q5_1.h"
#include "schmidt/quant/q8_0.h"

namespace schmidt::convert {
namespace {

constexpr int64_t kBlock = 32;

/// 32 codes of one group: W = scale (q - zero).
struct Part {
  const uint8_t* q;
  float scale;
  int zero;
};

quant::BlockQ8_0 block(const Part& part, const quant::BlockQ8_0& /*like*/) {
  quant::BlockQ8_0 made;
  made.d = quant::Float16::of(part.scale);
  for (int64_t i = 0; i < kBlock; ++i) made.q[i] = static_cast<int8_t>(part.q[i] - part.zero);
  return made;
}

/// Codes of four bits that stand for `to_code` of ours.
template <typename ToCode>
void put_low_high(const Part& part, uint8_t* low_high, const ToCode& to_code) {
  for (int64_t j = 0; j < kBlock / 2; ++j) {
    const int low = to_code(part.q[j]), high = to_code(part.q[j + kBlock / 2]);
    low_high[j] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
  }
}

quant::Bits32 fifth_bits(const Part& part) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < kBlock; ++i) bits |= static_cast<uint32_t>(part.q[i] >> 4 & 1) << i;
  return quant::Bits32::of(bits);
}

quant::BlockQ4_0 block(const Part& part, const quant::BlockQ4_0& /*like*/) {
  quant::BlockQ4_0 made;
  made.d = quant::Float16::of(part.scale);
  put_low_high(part, made.low_high, [&](int q) { return q - part.zero + 8; });
  return made;
}

quant::BlockQ4_1 block(const Part& part, const quant::BlockQ4_1& /*like*/) {
  quant::BlockQ4_1 made;
  made.d = quant::Float16::of(part.scale);
  made.m = quant::Float16::of(-part.scale * static_cast<float>(part.zero));
  put_low_high(part, made.low_high, [](int q) { return q; });
  return made;
}

quant::BlockQ5_0 block(const Part& part, const quant::BlockQ5_0& /*like*/) {
  quant::BlockQ5_0 made;
  made.d = quant::Float16::of(part.scale);
  made.fifth = fifth_bits(part);
  put_low_high(part, made.low_high, [](int q) { return q; });
  return made;
}

quant::BlockQ5_1 block(const Part& part, const quant::BlockQ5_1& /*like*/) {
  quant::BlockQ5_1 made;
  made.d = quant::Float16::of(part.scale);
  made.m = quant::Float16::of(-part.scale * static_cast<float>(part.zero));
  made.fifth = fifth_bits(part);
  put_low_high(part, made.low_high, [](int q) { return q; });
  return made;
}

template <typename Block>
std::string blocks_of(const model::QuantizedMatrix& matrix) {
  const quant::IntegerFormat& format = matrix.format();
  const torch::Tensor codes = matrix.codes().contiguous();
  const torch::Tensor scales = matrix.scales().to(torch::kFloat32).contiguous();
  const torch::Tensor zeros =
      matrix.zeros().defined() ? matrix.zeros().contiguous() : torch::Tensor();
  const int64_t groups = scales.size(1), columns = matrix.columns();
  std::string bytes(static_cast<size_t>(matrix.rows() * columns / kBlock) * sizeof(Block), '\0');
  char* out = bytes.data();
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    for (int64_t column = 0; column < columns; column += kBlock) {
      const int64_t group = row * groups + column / format.group;
      const Part part{codes.const_data_ptr<uint8_t>() + row * columns + column,
                      scales.const_data_ptr<float>()[group],
                      zeros.defined() ? zeros.const_data_ptr<uint8_t>()[group] : format.middle()};
      const Block made = block(part, Block{});
      std::memcpy(out, &made, sizeof made);
      out += sizeof made;
    }
  }
  return bytes;
}

struct Target {
  const char* name;
  std::string (*blocks)(const model::QuantizedMatrix&);
};

constexpr Target kQ4_0{"Q4_0", blocks_of<quant::BlockQ4_0>};
constexpr Target kQ4_1{"Q4_1", blocks_of<quant::BlockQ4_1>};
constexpr Target kQ5_0{"Q5_0", blocks_of<quant::BlockQ5_0>};
constexpr Target kQ5_1{"Q5_1", blocks_of<quant::BlockQ5_1>};
constexpr Target kQ8_0{"Q8_0", blocks_of<quant::BlockQ8_0>};

const Target* target_of(const quant::IntegerFormat& integers) {
  if (integers.group % kBlock != 0) return nullptr;
  if (integers.bits <= 4) return integers.symmetric ? &kQ4_0 : &kQ4_1;
  if (integers.bits == 5) return integers.symmetric ? &kQ5_0 : &kQ5_1;
  return integers.bits == 6 || integers.symmetric ? &kQ8_0 : nullptr;
}

}  // namespace

const quant::Format* block_format_of(const quant::IntegerFormat& integers) {
  const Target* target = target_of(integers);
  return target == nullptr ? nullptr : quant::find_format(target->name);
}

std::string integer_blocks(const model::QuantizedMatrix& matrix) {
  const Target* target = target_of(matrix.format());
  TORCH_CHECK_VALUE(target != nullptr, "[export] expected integers that a block format holds, got ",
                    matrix.format().label());
  TORCH_CHECK_VALUE(at::isfinite(matrix.scales().to(torch::kFloat16)).all().item<bool>(),
                    "[export] expected scales that float16 can hold, got larger ones");
  return target->blocks(matrix);
}

}  // namespace schmidt::convert
