#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace schmidt::infer {

struct LikelyToken {
  int64_t id = 0;
  float log_p = 0;  ///< nats
};

/// What a model says of one token, before temperature and the other steps of sampling.
struct TokenScore {
  float log_p = 0;                     ///< nats, kLeastLogP or more
  std::vector<LikelyToken> likeliest;  ///< likeliest first; where the token stands among them,
                                       ///< it has bit for bit the same log_p
};

/// Stands for the logarithm of probability zero, which JSON cannot write.
inline constexpr float kLeastLogP = -9999.0F;

/// logits [n, vocab] and the n tokens that come after them -> their scores, each with the `top`
/// likeliest tokens (fewer where the vocabulary is smaller). In float32, on the logits' device.
/// Throws c10::ValueError if the logits hold NaN or sizes do not fit.
std::vector<TokenScore> score_tokens(const torch::Tensor& logits,
                                     const std::vector<int64_t>& tokens, int64_t top);

}  // namespace schmidt::infer
