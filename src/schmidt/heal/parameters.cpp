#include "schmidt/heal/parameters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/variable.h>

namespace schmidt::heal {

bool TrainedParts::contains(const model::NamedTensor& tensor) const {
  if (tensor.role == model::Role::kVocabulary) return embedding;
  if (tensor.role == model::Role::kFactor) return factors;
  if (tensor.role == model::Role::kCodes) return codes;
  if (tensor.role == model::Role::kZeros) return zeros;
  return tensor.tensor.dim() < 2 ? norms : dense;
}

model::LoadOptions to_train(model::LoadOptions load, const TrainedParts& parts,
                            const std::optional<io::Checkpoint>& teacher) {
  load.free_gauge = true;
  load.train_codes = parts.codes || parts.zeros;
  if (parts.codes) load.original = teacher;
  return load;
}

/// Moves a leaf's gradient into the sum and leaves the leaf without one.
class Parameters::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(Parameters& owner, size_t index) : owner_(owner), index_(index) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    const at::NoGradGuard no_grad;
    const Piece& piece = owner_.pieces_[index_];
    owner_.gradient_.narrow(0, piece.offset, leaf.numel()).view(leaf.sizes()).add_(leaf.grad());
    leaf.mutable_grad().reset();
    if (owner_.ready_) owner_.ready_(index_);
  }

 private:
  Parameters& owner_;
  size_t index_;
};

Parameters::Parameters(const std::vector<model::NamedTensor>& leaves,
                       const std::vector<model::NamedTensor>& masters, const TrainedParts& parts) {
  TORCH_INTERNAL_ASSERT(leaves.size() == masters.size(), "[heal] leaves without masters");
  const at::NoGradGuard no_grad;
  int64_t total = 0;
  std::vector<torch::Tensor> trained_masters;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const auto& [name, leaf, role] = leaves[i];
    leaf.set_requires_grad(parts.contains(leaves[i]));
    if (!leaf.requires_grad()) continue;
    const bool decays =
        leaf.dim() >= 2 && role != model::Role::kCodes && role != model::Role::kZeros;
    pieces_.push_back({name, leaf, total, decays});
    trained_masters.push_back(masters[i].tensor);
    total += leaf.numel();
  }
  values_ = at::empty({total}, leaves.front().tensor.options().dtype(torch::kFloat32));
  gradient_ = at::zeros_like(values_);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    value_of(pieces_[i]).copy_(trained_masters[i]);
    torch::autograd::impl::set_post_acc_grad_hooks(pieces_[i].leaf,
                                                   std::make_unique<Hook>(*this, i));
  }
}

Parameters::~Parameters() {
  for (const Piece& piece : pieces_) {
    torch::autograd::impl::set_post_acc_grad_hooks(piece.leaf, nullptr);
    piece.leaf.set_requires_grad(false);
  }
}

torch::Tensor Parameters::value_of(const Piece& piece) const {
  return values_.narrow(0, piece.offset, piece.leaf.numel()).view(piece.leaf.sizes());
}

void Parameters::set(const std::map<std::string, torch::Tensor>& values) {
  const at::NoGradGuard no_grad;
  for (const Piece& piece : pieces_) {
    const auto found = values.find(piece.name);
    if (found == values.end()) continue;
    TORCH_CHECK_VALUE(found->second.sizes() == piece.leaf.sizes(), "[heal] expected ", piece.name,
                      " of shape ", piece.leaf.sizes(), ", got ", found->second.sizes());
    value_of(piece).copy_(found->second);
  }
}

void Parameters::write_to_model() {
  const at::NoGradGuard no_grad;
  for (const Piece& piece : pieces_) piece.leaf.copy_(value_of(piece));
}

}  // namespace schmidt::heal
