#include "schmidt/eval/token_likelihoods.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

namespace schmidt::eval {
namespace {

// Rows of logits held at once, as for perplexity.
constexpr int64_t kRows = 64;

}  // namespace

std::vector<TokenLikelihood> token_likelihoods(const model::Model& model,
                                               const torch::Tensor& states,
                                               const std::vector<int64_t>& tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  TORCH_CHECK_VALUE(states.dim() == 2 && states.size(0) == count, "[likelihoods] expected states [",
                    count, ", hidden], got ", states.sizes());
  const at::NoGradGuard no_grad;
  std::vector<TokenLikelihood> all;
  const torch::Tensor next = at::tensor(tokens, at::kLong).to(states.device());
  for (int64_t begin = 0; begin < count; begin += kRows) {
    const int64_t rows = std::min(kRows, count - begin);
    const torch::Tensor logits = model.logits(states.narrow(0, begin, rows)).to(at::kFloat);
    const torch::Tensor here = next.narrow(0, begin, rows);
    const torch::Tensor log_p =
        at::log_softmax(logits, -1).gather(1, here.unsqueeze(1)).squeeze(1).to(at::kCPU);
    const torch::Tensor likeliest = logits.argmax(-1).eq(here).to(at::kCPU);
    for (int64_t i = 0; i < rows; ++i) {
      all.push_back({log_p.const_data_ptr<float>()[i], likeliest.const_data_ptr<bool>()[i]});
    }
  }
  return all;
}

}  // namespace schmidt::eval
