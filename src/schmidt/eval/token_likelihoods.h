#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/model/model.h"

namespace schmidt::eval {

struct TokenLikelihood {
  double log_p = 0;        ///< nats
  bool likeliest = false;  ///< whether no other token is likelier
};

/// What a model says of each token from its state after the final norm before it.
/// states [n, hidden], tokens [n].
std::vector<TokenLikelihood> token_likelihoods(const model::Model& model,
                                               const torch::Tensor& states,
                                               const std::vector<int64_t>& tokens);

}  // namespace schmidt::eval
