#include "schmidt/model/block_pass.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "schmidt/model/block.h"

namespace schmidt::model {
namespace {

bool recorded(const torch::Tensor& a, const torch::Tensor& b) {
  return at::GradMode::is_enabled() && (a.requires_grad() || b.requires_grad());
}

// h + update; into `update`'s memory where no gradient needs it.
torch::Tensor grown(const torch::Tensor& h, torch::Tensor update) {
  return recorded(h, update) ? h + update : update.add_(h);
}

}  // namespace

BlockPass::BlockPass(const Block& block, Attention attention, torch::Tensor h)
    : block_(&block), attention_(std::move(attention)), state_{Group::kQkv, std::move(h), {}} {
  state_.input = block.norm(Group::kQkv, state_.residual);
}

BlockPass::BlockPass(const Block& block, Attention attention, BlockState state)
    : block_(&block), attention_(std::move(attention)), state_(std::move(state)) {
  if (state_.mixed.defined()) shares_ = block.shares(state_.mixed);
}

torch::Tensor BlockPass::share(int64_t expert) const { return shares_.narrow(-1, expert, 1); }

torch::Tensor BlockPass::takers() const {
  TORCH_CHECK_VALUE(state_.group && state_.group->expert,
                    "[block] expected a pass before a group of an expert, got another");
  return share(state_.group->expert.value()).flatten().nonzero().flatten();
}

torch::Tensor BlockPass::outputs() const {
  TORCH_CHECK_VALUE(state_.group, "[block] expected a pass with layers left, got one at its end");
  return outputs(*block_->projection(*state_.group));
}

torch::Tensor BlockPass::outputs(const Projection& projection) const {
  const torch::Tensor& x = state_.input;
  if (!state_.group || !state_.group->expert) return projection.apply(x);
  const torch::Tensor rows = takers();
  if (rows.size(0) == shares_.numel() / shares_.size(-1)) return projection.apply(x);
  torch::Tensor all = at::zeros({x.numel() / x.size(-1), projection.out_features()}, x.options());
  if (rows.size(0) > 0) {
    all = all.index_copy(0, rows, projection.apply(x.flatten(0, -2).index_select(0, rows)));
  }
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = projection.out_features();
  return all.view(sizes);
}

void BlockPass::begin_expert(int64_t expert) {
  state_.group = Group(Group::kGateUp, expert);
  state_.input = state_.mixed * share(expert).ne(0);
}

void BlockPass::advance(torch::Tensor outputs) {
  TORCH_CHECK_VALUE(state_.group, "[block] expected a pass with layers left, got one at its end");
  const Group group = *state_.group;
  switch (group.kind) {
    case Group::kQkv:
      state_.input = attention_(outputs);
      state_.group = Group::kOut;
      return;
    case Group::kOut:
      state_.residual = grown(state_.residual, block_->added(group, std::move(outputs)));
      state_.input = block_->norm(Group::kGateUp, state_.residual);
      state_.group = Group::kGateUp;
      if (!block_->mixes_experts()) return;
      state_.mixed = state_.input;
      shares_ = block_->shares(state_.mixed);
      begin_expert(0);
      return;
    case Group::kGateUp:
      state_.input = block_->gated(outputs);
      state_.group = Group(Group::kDown, group.expert);
      return;
    case Group::kDown:
      if (group.expert) {
        outputs = outputs * share(*group.expert);
        if (state_.sum.defined()) outputs = grown(state_.sum, std::move(outputs));
        if (*group.expert + 1 < shares_.size(-1)) {
          state_.sum = std::move(outputs);
          return begin_expert(*group.expert + 1);
        }
      }
      state_ = {std::nullopt, grown(state_.residual, block_->added(group, std::move(outputs))), {}};
      shares_ = torch::Tensor();
      return;
  }
}

void BlockPass::select(const torch::Tensor& tokens) {
  TORCH_CHECK_VALUE(state_.group == Group::kOut,
                    "[block] expected a pass after its attention, got another");
  state_.residual = state_.residual.index_select(0, tokens);
  state_.input = state_.input.index_select(0, tokens);
}

void BlockPass::apply_until(Group group) {
  while (state_.group != group) apply();
}

// All experts from the first on, each for the tokens that take it.
void BlockPass::mix_experts() {
  const torch::Tensor x = state_.mixed.flatten(0, -2);  // [tokens, hidden]
  const torch::Tensor shares = shares_.flatten(0, -2);  // [tokens, experts]
  // Of each expert in turn: its takers, ascending.
  const torch::Tensor taken = shares.t().nonzero().cpu();  // [n, 2]
  const torch::Tensor rows = taken.select(1, 1).contiguous().to(x.device());
  const auto experts = taken.select(1, 0).contiguous();
  const int64_t* expert = experts.const_data_ptr<int64_t>();
  torch::Tensor sum = at::zeros_like(x);
  for (int64_t begin = 0; begin < experts.size(0);) {
    const int64_t e = expert[begin];
    int64_t end = begin + 1;
    while (end < experts.size(0) && expert[end] == e) ++end;
    const torch::Tensor own = rows.narrow(0, begin, end - begin);
    const torch::Tensor gate_up =
        block_->projection(Group(Group::kGateUp, e))->apply(x.index_select(0, own));
    torch::Tensor y = block_->projection(Group(Group::kDown, e))->apply(block_->gated(gate_up));
    y = (y * shares.select(1, e).index_select(0, own).unsqueeze(1)).to(sum.scalar_type());
    sum = recorded(sum, y) ? sum.index_add(0, own, y) : sum.index_add_(0, own, y);
    begin = end;
  }
  state_.residual = grown(state_.residual, block_->added(Group::kDown, sum.view_as(state_.mixed)));
  state_ = {std::nullopt, std::move(state_.residual), {}};
  shares_ = torch::Tensor();
}

torch::Tensor BlockPass::finish() {
  while (state_.group) {
    if (state_.group == Group(Group::kGateUp, 0)) {
      mix_experts();
    } else {
      apply();
    }
  }
  return state_.residual;
}

}  // namespace schmidt::model
