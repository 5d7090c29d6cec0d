#include "schmidt/model/nf4_matrix.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/nf4_linear.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/model/tiled_product.h"

namespace schmidt::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const auto kFloats = at::TensorOptions(torch::kFloat32);
const auto kBytes = at::TensorOptions(torch::kUInt8);

quant::Nf4Scales scales_of(const Nf4Parts& parts) {
  if (!parts.nested_absmax.defined()) return {.absmax = parts.absmax.const_data_ptr<float>()};
  return {.codes = parts.absmax.const_data_ptr<uint8_t>(),
          .map = parts.nested_map.const_data_ptr<float>(),
          .nested = parts.nested_absmax.const_data_ptr<float>(),
          .nested_block = parts.nested_block,
          .offset = static_cast<float>(parts.offset)};
}

kernels::Nf4Weight kernel_weight(const Nf4Parts& parts) {
  return {.codes = parts.codes.const_data_ptr<uint8_t>(),
          .scales = scales_of(parts),
          .block = parts.block,
          .m = parts.rows,
          .n = parts.columns};
}

TiledMatrix tiled(const Nf4Matrix& w, torch::ScalarType dtype) {
  return {w.rows(), w.columns(),
          [&w, dtype](int64_t begin, int64_t end) { return w.decode(begin, end, dtype); }};
}

struct Product : torch::autograd::Function<Product> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const Nf4Matrix* w) {
    const Nf4Parts& p = w->parts();
    context->save_for_backward({p.codes, p.absmax, p.nested_absmax, p.nested_map});
    context->saved_data["sizes"] = std::vector{p.rows, p.columns, p.block, p.nested_block};
    context->saved_data["offset"] = p.offset;
    return tiled_product(tiled(*w, x.scalar_type()), x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const std::vector<int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const Nf4Matrix w(Nf4Parts{.rows = sizes[0],
                               .columns = sizes[1],
                               .block = sizes[2],
                               .codes = saved[0],
                               .absmax = saved[1],
                               .nested_absmax = saved[2],
                               .nested_map = saved[3],
                               .nested_block = sizes[3],
                               .offset = context->saved_data["offset"].toDouble()});
    const torch::Tensor dy = gradients[0].reshape({-1, w.rows()});
    torch::Tensor dx = at::zeros({dy.size(0), w.columns()}, dy.options());
    for_each_tile(tiled(w, dy.scalar_type()), [&](int64_t begin, const torch::Tensor& tile) {
      dx.addmm_(dy.narrow(1, begin, tile.size(0)), tile);
    });
    std::vector<int64_t> shape = gradients[0].sizes().vec();
    shape.back() = w.columns();
    return {dx.view(shape), torch::Tensor()};
  }
};

}  // namespace

Nf4Parts nf4_encoded(const torch::Tensor& w, Nf4Magnitudes magnitudes) {
  TORCH_CHECK_VALUE(w.dim() == 2 && w.numel() > 0, "[nf4] expected a matrix, got ", w.sizes());
  const torch::Tensor values = w.to(torch::kCPU, torch::kFloat32).contiguous();
  const int64_t count = values.numel();
  Nf4Parts parts{.rows = w.size(0), .columns = w.size(1)};
  const int64_t blocks = quant::blocks_of(count, parts.block);
  parts.codes = at::empty({quant::nf4_bytes(count), 1}, kBytes);
  parts.absmax = at::empty({blocks}, kFloats);
  quant::encode_nf4(values.const_data_ptr<float>(), count, parts.block,
                    parts.codes.mutable_data_ptr<uint8_t>(),
                    parts.absmax.mutable_data_ptr<float>());
  if (magnitudes == Nf4Magnitudes::kDoubleQuantized) {
    // In float64 and in order: the same on any number of threads.
    const auto* from = parts.absmax.const_data_ptr<float>();
    const double mean = std::accumulate(from, from + blocks, 0.0) / static_cast<double>(blocks);
    parts.offset = static_cast<float>(mean);
    const torch::Tensor rest = parts.absmax - static_cast<float>(parts.offset);
    parts.absmax = at::empty({blocks}, kBytes);
    parts.nested_absmax = at::empty({quant::blocks_of(blocks, parts.nested_block)}, kFloats);
    parts.nested_map = at::tensor(at::ArrayRef<float>(quant::dynamic_map()), kFloats);
    quant::encode_dynamic(rest.const_data_ptr<float>(), blocks, parts.nested_block,
                          parts.absmax.mutable_data_ptr<uint8_t>(),
                          parts.nested_absmax.mutable_data_ptr<float>());
  }
  for (torch::Tensor* t : {&parts.codes, &parts.absmax, &parts.nested_absmax, &parts.nested_map}) {
    if (t->defined()) *t = t->to(w.device());
  }
  return parts;
}

Nf4Matrix::Nf4Matrix(Nf4Parts parts) : parts_(std::move(parts)) {
  const Nf4Parts& p = parts_;
  const int64_t count = p.rows * p.columns;
  const int64_t blocks = quant::blocks_of(count, p.block);
  TORCH_CHECK_VALUE(
      p.codes.numel() == quant::nf4_bytes(count) && p.codes.scalar_type() == torch::kUInt8,
      "[nf4] expected ", quant::nf4_bytes(count), " bytes of codes for ", p.rows, " x ", p.columns,
      ", got ", p.codes.sizes(), " of ", p.codes.scalar_type());
  const bool nested = p.nested_absmax.defined();
  TORCH_CHECK_VALUE(p.absmax.numel() == blocks &&
                        p.absmax.scalar_type() == (nested ? torch::kUInt8 : torch::kFloat32),
                    "[nf4] expected ", blocks, nested ? " codes" : " numbers",
                    " for the magnitudes of blocks, got ", p.absmax.sizes(), " of ",
                    p.absmax.scalar_type());
  TORCH_CHECK_VALUE(
      !nested || (p.nested_absmax.numel() == quant::blocks_of(blocks, p.nested_block) &&
                  p.nested_absmax.scalar_type() == torch::kFloat32 && p.nested_map.defined() &&
                  p.nested_map.numel() == 256 && p.nested_map.scalar_type() == torch::kFloat32),
      "[nf4] expected ", quant::blocks_of(blocks, p.nested_block),
      " magnitudes of magnitudes and a map of 256 numbers, in float32");
}

torch::Tensor Nf4Matrix::magnitudes() const {
  if (!is_double_quantized()) return parts_.absmax;
  const torch::Tensor nested = parts_.nested_absmax.repeat_interleave(parts_.nested_block)
                                   .narrow(0, 0, parts_.absmax.numel());
  return parts_.nested_map.index_select(0, parts_.absmax.to(torch::kInt64)) * nested +
         static_cast<float>(parts_.offset);
}

torch::Tensor Nf4Matrix::decode(int64_t begin, int64_t end, torch::ScalarType dtype) const {
  if (!parts_.codes.is_cpu()) return nf4_decoded_by_library(*this, begin, end).to(dtype);
  const int64_t n = columns();
  torch::Tensor values = at::empty({end - begin, n}, kFloats);
  kernels::decode_nf4_rows(kernel_weight(parts_), begin, end, values.mutable_data_ptr<float>());
  return values.to(dtype);
}

torch::Tensor Nf4Matrix::multiply(const torch::Tensor& x) const {
  if (parts_.codes.is_cpu() && x.size(-1) == columns()) {
    const kernels::Nf4Weight w = kernel_weight(parts_);
    if (kernels::suits_nf4_linear(x, w)) return kernels::nf4_linear(x, w);
  }
  return Product::apply(x, this);
}

kernels::TeamProductPtr Nf4Matrix::team_product(torch::ScalarType dtype) const {
  return parts_.codes.is_cpu() ? kernels::nf4_team_product(kernel_weight(parts_), dtype) : nullptr;
}

torch::Tensor nf4_decoded_by_library(const Nf4Matrix& w, int64_t begin, int64_t end) {
  const Nf4Parts& p = w.parts();
  const int64_t first = begin * p.columns, last = end * p.columns;
  const torch::Device device = p.codes.device();
  const torch::Tensor bytes = p.codes.flatten().slice(0, first / 2, quant::nf4_bytes(last));
  const torch::Tensor codes = at::stack({bytes.bitwise_right_shift(4), bytes.bitwise_and(15)}, 1)
                                  .flatten()
                                  .narrow(0, first % 2, last - first);
  const torch::Tensor levels =
      at::tensor(at::ArrayRef<float>(quant::kNf4Levels), kFloats).to(device);
  const torch::Tensor block =
      at::arange(first, last, at::TensorOptions(torch::kInt64).device(device))
          .div(p.block, "floor");
  return (levels.index_select(0, codes.to(torch::kInt64)) * w.magnitudes().index_select(0, block))
      .view({end - begin, p.columns});
}

}  // namespace schmidt::model
