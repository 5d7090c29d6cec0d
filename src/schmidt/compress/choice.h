#pragma once

#include "schmidt/compress/methods.h"

namespace schmidt::compress {

/// For each layer the method that loses the least of it at the parameters that the plan's
/// network stores, all judged by tr(H D G' D^T), D the distance from the drifted target;
/// without H in the inputs' norm alone, H = 1:
///
///   fisher         low rank, the optimum of that norm; whitened where no gradient is known
///   sum            low rank plus an MPO of the plan's sites, of balanced ones where the plan
///                  is of low rank
///   gauss-newton   such an MPO alone
///
/// The low rank is the first and never lost: what is chosen is never worse, unless the plan's
/// parameters do not suffice for rank 1. What they do not suffice for is left out. A rival is given
/// up after a round whose gain, had once more, would still leave it behind. Where W^T H W is
/// all that is known of H (StatisticsOptions::outputs), nothing but the low rank can be judged.
FittedWeight choose(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                    const MethodOptions& options);

}  // namespace schmidt::compress
