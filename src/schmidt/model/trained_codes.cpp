#include "schmidt/model/trained_codes.h"

#include <utility>

#include <ATen/ops/full_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max.h>
#include <ATen/ops/min.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/model/quantized_projection.h"

namespace schmidt::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kCode = 16.0;    // integers in a unit of u and v
constexpr double kWithin = 0.45;  // of a code: not yet the next

/// The integers that u or v stands for, in float32.
torch::Tensor nearest(const torch::Tensor& u, int bits) {
  return (u.to(torch::kFloat32) * kCode).round_().clamp_(0, (1 << bits) - 1);
}

/// Where they lie within the range, 1, elsewhere 0.
torch::Tensor inside(const torch::Tensor& u, const quant::IntegerFormat& format) {
  const torch::Tensor number = u.to(torch::kFloat32) * kCode;
  return number.gt(-0.5).logical_and_(number.lt(format.levels() - 0.5)).to(torch::kFloat32);
}

/// q - z [m, groups, group] in float32.
torch::Tensor centred(const torch::Tensor& u, const torch::Tensor& v,
                      const quant::IntegerFormat& format) {
  return nearest(u, format.bits).unflatten(1, {-1, format.group}) -
         nearest(v, format.bits).unsqueeze(-1);
}

/// W' [m, n] of u [m, n], scales and v [m, groups], in u's type.
struct Rounded : torch::autograd::Function<Rounded> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& u,
                               const torch::Tensor& scales, const torch::Tensor& v,
                               const quant::IntegerFormat* format) {
    context->save_for_backward({u, scales, v});
    context->saved_data["format"] = as_numbers(*format);
    return (centred(u, v, *format) * scales.to(torch::kFloat32).unsqueeze(-1))
        .flatten(1)
        .to(u.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const quant::IntegerFormat format = format_of(context->saved_data["format"].toIntVector());
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor &u = saved[0], &scales = saved[1], &v = saved[2];
    const torch::Tensor dw = gradients[0].to(torch::kFloat32).unflatten(1, {-1, format.group});
    torch::Tensor du, ds, dv;
    if (context->needs_input_grad(0)) {
      du = ((dw * scales.to(torch::kFloat32).unsqueeze(-1)).flatten(1) * inside(u, format) * kCode)
               .to(u.scalar_type());
    }
    if (context->needs_input_grad(1)) {
      ds = (dw * centred(u, v, format)).sum(-1).to(scales.scalar_type());
    }
    if (context->needs_input_grad(2)) {
      dv = (dw.sum(-1) * scales.to(torch::kFloat32) * inside(v, format) * -kCode)
               .to(v.scalar_type());
    }
    return {du, ds, dv, torch::Tensor()};
  }
};

}  // namespace

std::string codes_name(const std::string& layer) { return layer + ".weight_codes"; }
std::string zeros_name(const std::string& layer) { return layer + ".weight_zeros"; }

torch::Tensor codes_of(const torch::Tensor& u, int bits) {
  return nearest(u, bits).to(torch::kUInt8);
}

TrainedCodes::TrainedCodes(std::string name, const QuantizedMatrix& weight,
                           std::optional<torch::Tensor> bias, torch::ScalarType dtype,
                           const torch::Tensor& original)
    : name_(std::move(name)),
      format_(weight.format()),
      scales_(weight.scales().to(dtype)),
      zeros_(((format_.symmetric ? at::full_like(weight.scales(), format_.middle(), torch::kFloat32)
                                 : weight.zeros().to(torch::kFloat32)) /
              kCode)
                 .to(dtype)),
      bias_(std::move(bias)) {
  const torch::Tensor codes = weight.codes().to(torch::kFloat32);
  codes_ = (codes / kCode).to(dtype);  // exact in bfloat16 too
  if (original.defined()) {
    const torch::Tensor scales = weight.scales().to(torch::kFloat32).unsqueeze(-1);
    const torch::Tensor between = (original.to(codes).unflatten(1, {-1, format_.group}) / scales +
                                   nearest(zeros_, format_.bits).unsqueeze(-1))
                                      .flatten(1);
    const torch::Tensor u =
        (at::min(at::max(between, codes - kWithin), codes + kWithin) / kCode).to(dtype);
    // Large codes leave bfloat16 no room between them.
    codes_ = at::where(codes_of(u, format_.bits).eq(weight.codes()), u, codes_);
  }
}

torch::Tensor TrainedCodes::weight() const {
  return Rounded::apply(codes_, scales_, zeros_, &format_);
}

torch::Tensor TrainedCodes::apply(const torch::Tensor& x) const {
  const torch::Tensor y = at::linear(x, weight().to(x.scalar_type()));
  return bias_ ? y + *bias_ : y;
}

torch::Tensor TrainedCodes::rows(const torch::Tensor& ids) const {
  const torch::Tensor flat = ids.flatten();
  const auto of = [&](const torch::Tensor& t) { return t.index_select(0, flat); };
  const torch::Tensor chosen = Rounded::apply(of(codes_), of(scales_), of(zeros_), &format_);
  return chosen.unflatten(0, ids.sizes());
}

std::vector<NamedTensor> TrainedCodes::parameters() const {
  std::vector<NamedTensor> all = {{codes_name(name_), codes_, Role::kCodes},
                                  {name_ + ".weight_scale", scales_, Role::kFactor}};
  if (!format_.symmetric) all.push_back({zeros_name(name_), zeros_, Role::kZeros});
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

std::vector<NamedTensor> TrainedCodes::tensors() const {
  const QuantizedMatrix now =
      QuantizedMatrix::pack(format_, codes_of(codes_, format_.bits), scales_,
                            format_.symmetric ? torch::Tensor() : codes_of(zeros_, format_.bits));
  std::vector<NamedTensor> all = quantized_weight(name_, now).tensors;
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

}  // namespace schmidt::model
