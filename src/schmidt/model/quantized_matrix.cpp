#include "schmidt/model/quantized_matrix.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/quantized_linear.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/model/tiled_product.h"

namespace schmidt::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

torch::Tensor unpacked_rows(const torch::Tensor& packed, int64_t n, int bits) {
  if (packed.is_meta())
    return at::empty({packed.size(0), n}, packed.options().dtype(torch::kUInt8));
  if (!packed.is_cpu()) return codes_by_library(packed, n, bits).to(torch::kUInt8);
  const torch::Tensor from = packed.contiguous();
  const int64_t m = from.size(0), words = from.size(1);
  torch::Tensor codes = at::empty({m, n}, at::TensorOptions(torch::kUInt8));
  const auto* at = reinterpret_cast<const uint32_t*>(from.const_data_ptr<int32_t>());
  for (int64_t i = 0; i < m; ++i) {
    quant::unpack_codes(at + i * words, n, bits, codes.mutable_data_ptr<uint8_t>() + i * n);
  }
  return codes;
}

/// As QuantizedMatrix::decode of all rows.
torch::Tensor decoded(const quant::IntegerFormat& format, const torch::Tensor& packed,
                      const torch::Tensor& scales, const torch::Tensor& zeros,
                      torch::ScalarType dtype) {
  const int64_t m = packed.size(0), groups = scales.size(1), n = groups * format.group;
  if (!packed.is_cpu() || kernels::records_gradient({&scales})) {
    const torch::Tensor s = scales.to(torch::kFloat32);
    const torch::Tensor q = unpacked_rows(packed, n, format.bits).view({m, groups, format.group});
    const torch::Tensor z = zeros.defined() ? zeros.unsqueeze(-1).to(torch::kFloat32)
                                            : at::full({}, format.middle(), s.options());
    return ((q.to(torch::kFloat32) - z) * s.unsqueeze(-1)).view({m, n}).to(dtype);
  }
  const bool fast = dtype == torch::kFloat32 || dtype == torch::kBFloat16;
  const torch::Tensor values = at::empty({m, n}, at::TensorOptions(fast ? dtype : torch::kFloat32));
  const torch::Tensor words = packed.contiguous(), s = scales.contiguous();
  const torch::Tensor z = zeros.defined() ? zeros.contiguous() : zeros;
  kernels::decode_into(kernels::quantized_weight(format, words, s, z), 0, m, values);
  return values.to(dtype);
}

TiledMatrix tiled(const QuantizedMatrix& w, torch::ScalarType dtype) {
  return {w.rows(), w.columns(),
          [&w, dtype](int64_t begin, int64_t end) { return w.decode(begin, end, dtype); }};
}

torch::Tensor product(const QuantizedMatrix& w, const torch::Tensor& x) {
  return tiled_product(tiled(w, x.scalar_type()), x);
}

struct Product : torch::autograd::Function<Product> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& /*scales*/, const QuantizedMatrix* w) {
    context->save_for_backward({x, w->packed(), w->scales(), w->zeros()});
    context->saved_data["format"] = as_numbers(w->format());
    return product(*w, x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const quant::IntegerFormat format = format_of(context->saved_data["format"].toIntVector());
    const QuantizedMatrix w(format, saved[1], saved[2], saved[3]);
    const torch::Tensor dy = gradients[0].reshape({-1, w.rows()});
    const torch::Tensor x = saved[0].reshape({-1, w.columns()});
    torch::Tensor dx, ds;
    if (context->needs_input_grad(0)) dx = at::zeros({dy.size(0), w.columns()}, dy.options());
    if (context->needs_input_grad(1)) ds = at::empty_like(w.scales());
    for_each_tile(tiled(w, dy.scalar_type()), [&](int64_t begin, const torch::Tensor& tile) {
      const torch::Tensor dy_part = dy.narrow(1, begin, tile.size(0));
      if (dx.defined()) dx.addmm_(dy_part, tile);
      if (ds.defined()) {
        const torch::Tensor dw = at::matmul(dy_part.t(), x);
        const torch::Tensor of_group =
            (dw * tile).to(torch::kFloat32).unflatten(1, {-1, format.group});
        const torch::Tensor scales = w.scales().narrow(0, begin, tile.size(0)).to(torch::kFloat32);
        ds.narrow(0, begin, tile.size(0)).copy_(of_group.sum(-1) / scales);  // dW / ds = W / s
      }
    });
    if (dx.defined()) dx = dx.view(saved[0].sizes());
    return {dx, ds, torch::Tensor()};
  }
};

}  // namespace

torch::Tensor packed_codes(const torch::Tensor& codes, int bits) {
  const torch::Tensor from = codes.to(torch::kCPU, torch::kUInt8).contiguous();
  const int64_t m = from.size(0), n = from.size(1), words = quant::packed_words(n, bits);
  torch::Tensor packed = at::empty({m, words}, at::TensorOptions(torch::kInt32));
  auto* to = reinterpret_cast<uint32_t*>(packed.mutable_data_ptr<int32_t>());
  for (int64_t i = 0; i < m; ++i) {
    quant::pack_codes(from.const_data_ptr<uint8_t>() + i * n, n, bits, to + i * words);
  }
  return packed;
}

std::vector<int64_t> as_numbers(const quant::IntegerFormat& format) {
  return {format.bits, format.group, format.symmetric ? 1 : 0};
}

quant::IntegerFormat format_of(const std::vector<int64_t>& numbers) {
  return {static_cast<int>(numbers.at(0)), numbers.at(1), numbers.at(2) == 1};
}

torch::Tensor codes_by_library(const torch::Tensor& packed, int64_t n, int bits) {
  const auto whole = at::TensorOptions(torch::kInt64).device(packed.device());
  const torch::Tensor bit = at::arange(n, whole) * bits;
  const torch::Tensor word = bit.div(32, "floor");
  const torch::Tensor unsigned_words = packed.to(torch::kInt64).bitwise_and(0xFFFFFFFFLL);
  const torch::Tensor low = unsigned_words.index_select(1, word);
  const torch::Tensor high =
      unsigned_words.index_select(1, (word + 1).clamp_max(packed.size(1) - 1));
  const torch::Tensor both = low.bitwise_or(high.bitwise_left_shift(32));
  return both.bitwise_right_shift(bit.remainder(32)).bitwise_and((1 << bits) - 1);
}

QuantizedMatrix QuantizedMatrix::pack(const quant::IntegerFormat& format,
                                      const torch::Tensor& codes, const torch::Tensor& scales,
                                      const torch::Tensor& zeros) {
  TORCH_CHECK_VALUE(codes.dim() == 2 && codes.size(1) == scales.size(1) * format.group,
                    "[quantized] expected codes of ", scales.size(1), " groups of ", format.group,
                    ", got ", codes.sizes());
  return {format, packed_codes(codes, format.bits).to(codes.device()), scales, zeros};
}

QuantizedMatrix::QuantizedMatrix(const quant::IntegerFormat& format, torch::Tensor packed,
                                 torch::Tensor scales, torch::Tensor zeros,
                                 kernels::Activations activations)
    : format_(format),
      packed_(std::move(packed)),
      scales_(std::move(scales)),
      zeros_(std::move(zeros)),
      activations_(activations) {
  TORCH_CHECK_VALUE(
      scales_.dim() == 2 && packed_.dim() == 2 && scales_.size(0) == packed_.size(0) &&
          packed_.size(1) == quant::packed_words(columns(), format_.bits),
      "[quantized] expected ", quant::packed_words(columns(), format_.bits), " words in a row of ",
      columns(), " codes, got ", packed_.sizes(), " and ", scales_.sizes(), " scales");
  TORCH_CHECK_VALUE(zeros_.defined() != format_.symmetric &&
                        (format_.symmetric || zeros_.sizes() == scales_.sizes()),
                    "[quantized] expected a zero point for each scale, none where symmetric");
}

torch::Tensor QuantizedMatrix::codes() const {
  return unpacked_rows(packed_, columns(), format_.bits);
}

torch::Tensor QuantizedMatrix::decode(int64_t begin, int64_t end, torch::ScalarType dtype) const {
  const auto part = [&](const torch::Tensor& t) {
    return t.defined() ? t.narrow(0, begin, end - begin) : t;
  };
  return decoded(format_, part(packed_), part(scales_), part(zeros_), dtype);
}

torch::Tensor QuantizedMatrix::gather(const torch::Tensor& ids, torch::ScalarType dtype) const {
  const torch::Tensor flat = ids.flatten();
  const auto chosen = [&](const torch::Tensor& t) {
    return t.defined() ? t.index_select(0, flat) : t;
  };
  std::vector<int64_t> sizes = ids.sizes().vec();
  sizes.push_back(columns());
  return decoded(format_, chosen(packed_), chosen(scales_), chosen(zeros_), dtype).view(sizes);
}

torch::Tensor QuantizedMatrix::multiply(const torch::Tensor& x) const {
  if (!kernels::fast_path({&x}) || kernels::records_gradient({&scales_}) || !packed_.is_cpu()) {
    return Product::apply(x, scales_, this);
  }
  const torch::Tensor packed = packed_.contiguous(), scales = scales_.contiguous();
  const torch::Tensor zeros = zeros_.defined() ? zeros_.contiguous() : zeros_;
  const kernels::QuantizedWeight w = kernels::quantized_weight(format_, packed, scales, zeros);
  return kernels::suits_quantized_linear(x, w, activations_)
             ? kernels::quantized_linear(x, w, activations_)
             : product(*this, x);
}

kernels::TeamProductPtr QuantizedMatrix::team_product(const std::optional<torch::Tensor>& bias,
                                                      torch::ScalarType dtype) const {
  if (!packed_.is_cpu() || activations_ != kernels::Activations::kInt8 ||
      !packed_.is_contiguous() || !scales_.is_contiguous() ||
      (zeros_.defined() && !zeros_.is_contiguous())) {
    return nullptr;
  }
  const kernels::QuantizedWeight w = kernels::quantized_weight(format_, packed_, scales_, zeros_);
  if (w.m == 0 || !kernels::suits_int8(w)) return nullptr;
  return kernels::biased(kernels::quantized_team_product(w, dtype), bias, dtype);
}

torch::Tensor packed_zeros(const torch::Tensor& zeros, int bits) {
  return packed_codes(zeros.t(), bits).t().contiguous();
}

torch::Tensor unpacked_zeros(const torch::Tensor& packed, int64_t m, int bits) {
  return unpacked_rows(packed.t(), m, bits).t().contiguous();
}

}  // namespace schmidt::model
