#include "schmidt/model/block_pass.h"

#include <utility>

#include <ATen/core/grad_mode.h>

#include "schmidt/model/block.h"

namespace schmidt::model {
namespace {

// h + update; into `update`'s memory where no gradient needs it.
torch::Tensor grown(const torch::Tensor& h, torch::Tensor update) {
  const bool recorded = at::GradMode::is_enabled() && (h.requires_grad() || update.requires_grad());
  return recorded ? h + update : update.add_(h);
}

}  // namespace

BlockPass::BlockPass(const Block& block, Attention attention, torch::Tensor h)
    : block_(&block),
      attention_(std::move(attention)),
      group_(Group::kQkv),
      residual_(std::move(h)),
      input_(block.norm(Group::kQkv, residual_)) {}

BlockPass::BlockPass(const Block& block, Attention attention, Group group, torch::Tensor residual,
                     torch::Tensor input)
    : block_(&block),
      attention_(std::move(attention)),
      group_(group),
      residual_(std::move(residual)),
      input_(std::move(input)) {}

void BlockPass::advance(torch::Tensor outputs) {
  TORCH_CHECK_VALUE(group_, "[block] expected a pass with layers left, got one at its end");
  switch (*group_) {
    case Group::kQkv:
      input_ = attention_(outputs);
      group_ = Group::kOut;
      return;
    case Group::kOut:
      residual_ = grown(residual_, block_->added(*group_, std::move(outputs)));
      input_ = block_->norm(Group::kGateUp, residual_);
      group_ = Group::kGateUp;
      return;
    case Group::kGateUp:
      input_ = block_->gated(outputs);
      group_ = Group::kDown;
      return;
    case Group::kDown:
      residual_ = grown(residual_, block_->added(*group_, std::move(outputs)));
      input_ = torch::Tensor();
      group_ = std::nullopt;
      return;
  }
}

void BlockPass::apply() {
  TORCH_CHECK_VALUE(group_, "[block] expected a pass with layers left, got one at its end");
  apply(*block_->projection(*group_));
}

void BlockPass::apply_until(Group group) {
  while (group_ != group) apply();
}

torch::Tensor BlockPass::finish() {
  while (group_) apply();
  return residual_;
}

}  // namespace schmidt::model
