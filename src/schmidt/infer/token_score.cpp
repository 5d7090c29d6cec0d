#include "schmidt/infer/token_score.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>

namespace schmidt::infer {

std::vector<TokenScore> score_tokens(const torch::Tensor& logits,
                                     const std::vector<int64_t>& tokens, int64_t top) {
  const auto count = static_cast<int64_t>(tokens.size());
  TORCH_CHECK_VALUE(logits.dim() == 2 && logits.size(0) == count && top >= 0,
                    "[score] expected logits [", count, ", vocab] and 0 or more tokens beside, ",
                    "got ", logits.sizes(), " and ", top);
  if (count == 0) return {};
  const at::NoGradGuard no_grad;
  const torch::Tensor log_p = at::log_softmax(logits.to(at::kFloat), -1);
  const torch::Tensor index = at::tensor(tokens, at::kLong).to(log_p.device()).unsqueeze(1);
  const torch::Tensor own = log_p.gather(1, index).to(at::kCPU);
  const int64_t kept = std::min(top, log_p.size(1));
  auto [values, ids] = at::topk(log_p, kept, -1);
  values = values.to(at::kCPU).contiguous();
  ids = ids.to(at::kCPU).contiguous();
  std::vector<TokenScore> scores(tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    const float value = own.const_data_ptr<float>()[i];
    TORCH_CHECK_VALUE(!std::isnan(value), "[score] expected finite logits, got NaN");
    scores[i].log_p = std::max(value, kLeastLogP);
    for (int64_t k = i * kept; k < (i + 1) * kept; ++k) {
      scores[i].likeliest.push_back({ids.const_data_ptr<int64_t>()[k],
                                     std::max(values.const_data_ptr<float>()[k], kLeastLogP)});
    }
  }
  return scores;
}

}  // namespace schmidt::infer
