#include "schmidt/heal/adamw.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

namespace schmidt::heal {

AdamW::AdamW(const Parameters& parameters, const std::vector<Slice>& owned,
             const AdamWOptions& options)
    : options_(options) {
  int64_t total = 0, last = 0;
  for (const Slice& slice : owned) {
    TORCH_CHECK_VALUE(slice.begin >= last && slice.size() >= 0 && slice.end <= parameters.numel(),
                      "[adamw] expected ascending slices of ", parameters.numel(),
                      " parameters, got ", slice.begin, " to ", slice.end);
    last = slice.end;
    total += slice.size();
  }
  first_ = at::zeros({total}, parameters.values().options());
  second_ = at::zeros({total}, parameters.values().options());
  decayed_.weight_decay = options.weight_decay;
  int64_t place = 0;
  for (const Slice& slice : owned) {
    for (const Parameters::Piece& piece : parameters.pieces()) {
      const Slice part = {std::max(piece.offset, slice.begin), std::min(piece.end(), slice.end)};
      if (part.size() <= 0) continue;
      Group& group = piece.decays ? decayed_ : kept_;
      group.values.push_back(parameters.values().narrow(0, part.begin, part.size()));
      group.gradients.push_back(parameters.gradient().narrow(0, part.begin, part.size()));
      const int64_t at = place + part.begin - slice.begin;
      group.first.push_back(first_.narrow(0, at, part.size()));
      group.second.push_back(second_.narrow(0, at, part.size()));
    }
    place += slice.size();
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  ++steps_;
  const torch::Tensor count = at::full({}, static_cast<double>(steps_), first_.options());
  for (const Group& group : {decayed_, kept_}) {
    if (group.values.empty()) continue;
    at::_fused_adamw_(group.values, group.gradients, group.first, group.second,
                      /*max_exp_avg_sqs=*/{}, std::vector(group.values.size(), count),
                      learning_rate, options_.beta1, options_.beta2, group.weight_decay,
                      options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::restore(int64_t steps, const torch::Tensor& first, const torch::Tensor& second) {
  TORCH_CHECK_VALUE(first.sizes() == first_.sizes() && second.sizes() == second_.sizes(),
                    "[adamw] expected moments of ", first_.numel(), " parameters, got ",
                    first.sizes(), " and ", second.sizes());
  steps_ = steps;
  first_.copy_(first);
  second_.copy_(second);
}

}  // namespace schmidt::heal
