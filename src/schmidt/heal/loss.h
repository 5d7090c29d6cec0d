#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "schmidt/model/model.h"

namespace schmidt::heal {

/// The parts of the loss of one predicted token, nats:
///
///   cross_entropy * -log p(next token)  +  kl * KL(q || p)
///
/// with p the student's distribution and q the teacher's.
struct LossWeights {
  double cross_entropy = 0.3;
  double kl = 0.7;
};

/// The teacher's K likeliest tokens at each of n positions. All others count as one
/// event, whose probability is what these leave: KL is then that between distributions
/// over K + 1 events, a lower bound of the whole one.
struct TopTokens {
  torch::Tensor ids;    ///< int64 [n, K], different in each row
  torch::Tensor log_q;  ///< float32 [n, K]
};

/// Where q comes from: the teacher's final hidden states [n, hidden] and its output
/// layer, or the likeliest tokens, stored beforehand. Neither: kl has to weigh 0.
struct Teacher {
  const model::Model* model = nullptr;
  torch::Tensor hidden;
  std::optional<TopTokens> top;
};

struct HeadLoss {
  torch::Tensor loss;          ///< scalar float32: scale * sum of the weighted parts
  double cross_entropy = 0.0;  ///< sum over positions
  double kl = 0.0;             ///< sum over positions; 0 without a teacher
};

/// The loss at n positions: hidden [n, hidden] after the final norm, targets int64 [n].
/// Differentiable, once, with respect to hidden and to the output layer's parameters.
/// Logits exist for a few rows at a time and their gradient is taken there and then,
/// so that memory does not grow with n times the vocabulary.
/// Throws c10::ValueError if sizes disagree, vocabularies differ, or kl weighs without a teacher.
HeadLoss head_loss(const model::Model& student, const torch::Tensor& hidden,
                   const torch::Tensor& targets, const Teacher& teacher, const LossWeights& weights,
                   double scale);

/// The k likeliest tokens of model.logits(hidden), rows in parts as above.
TopTokens top_tokens(const model::Model& model, const torch::Tensor& hidden, int64_t k);

}  // namespace schmidt::heal
