#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include "schmidt/kernels/quantized_weight.h"

#include "tests/kernels/at_the_end.h"

namespace schmidt::kernels {

struct Case {
  int bits;
  int64_t m, n, group;
  bool symmetric;
  c10::ScalarType scale_type;

  std::string text() const {
    return fmt::format("int{} {} x {}, groups of {}{}, scales {}", bits, m, n, group,
                       symmetric ? ", symmetric" : "", c10::toString(scale_type));
  }
};

/// Random codes, scales of both signs and zero points.
struct Made {
  std::unique_ptr<AtTheEnd> words, scales, zeros;
  torch::Tensor dense;  // W [m, n], rounded to float32
  QuantizedWeight w{};

  explicit Made(const Case& c) {
    const quant::IntegerFormat format{c.bits, c.group, c.symmetric};
    const int64_t groups = c.n / c.group, row_words = quant::packed_words(c.n, c.bits);
    const torch::Tensor codes = at::randint(0, format.levels(), {c.m, c.n}, torch::kUInt8);
    const torch::Tensor s = (at::randn({c.m, groups}) * 0.02).to(c.scale_type).contiguous();
    const torch::Tensor z = at::randint(0, format.levels(), {c.m, groups}, torch::kUInt8);
    torch::Tensor packed = at::empty({c.m, row_words}, torch::kInt32);
    for (int64_t i = 0; i < c.m; ++i) {
      quant::pack_codes(codes.const_data_ptr<uint8_t>() + i * c.n, c.n, c.bits,
                        reinterpret_cast<uint32_t*>(packed.data_ptr<int32_t>()) + i * row_words);
    }
    words = std::make_unique<AtTheEnd>(packed);
    scales = std::make_unique<AtTheEnd>(s);
    if (!c.symmetric) zeros = std::make_unique<AtTheEnd>(z);
    const auto wide = [&](const torch::Tensor& t) {
      return t.to(torch::kFloat32).repeat_interleave(c.group, 1);
    };
    const torch::Tensor zero =
        c.symmetric ? at::full({1, 1}, format.middle()).to(torch::kFloat32) : wide(z);
    dense = wide(s) * (codes.to(torch::kFloat32) - zero);
    w = {format,
         words->data<uint32_t>(),
         scales->data<void>(),
         c.scale_type,
         zeros ? zeros->data<uint8_t>() : nullptr,
         c.m,
         c.n};
  }
};

/// All widths, with groups that are whole vectors of columns, half of one, a row of any length, and
/// such as end within a block of x; every type of scale.
inline std::vector<Case> cases() {
  constexpr c10::ScalarType kTypes[] = {torch::kFloat32, torch::kBFloat16, torch::kFloat16};
  constexpr std::pair<int64_t, int64_t> kShapes[] = {
      {32, 32},   {64, 64},  {192, 64},  {224, 32}, {288, 96}, {576, 576}, {384, 128},
      {100, 100}, {33, 33},  {7, 7},     {100, 20}, {60, 12},  {1088, 64}, {13, 1},
      {123, 41},  {126, 63}, {254, 127}, {66, 33},  {120, 24}};
  std::vector<Case> all;
  size_t next = 0;
  for (const int bits : quant::kIntegerWidths) {
    for (const auto& [n, group] : kShapes) {
      for (const bool symmetric : {false, true}) {
        const int64_t m = 1 + static_cast<int64_t>(next % 37);
        all.push_back({bits, m, n, group, symmetric, kTypes[next++ % 3]});
      }
    }
  }
  return all;
}

/// A sum of n products in float32, in whatever order, is off by at most n 2^-24 times the sum of
/// their magnitudes (Higham 2002, section 3.1).
inline torch::Tensor rounding(const torch::Tensor& x, const torch::Tensor& w) {
  const auto n = static_cast<double>(x.size(1));
  return std::ldexp(n + 4, -24) * at::matmul(x.abs().to(at::kDouble), w.abs().to(at::kDouble).t());
}

inline torch::Tensor product(const torch::Tensor& x, const torch::Tensor& w) {
  return at::matmul(x.to(at::kDouble), w.to(at::kDouble).t());
}

}  // namespace schmidt::kernels
