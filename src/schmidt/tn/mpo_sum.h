#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// Sums of networks, whose matrix is that of all terms together: one term or more, all of
/// m rows and n columns.

torch::Tensor to_dense(const std::vector<Mpo>& terms);  ///< [m, n]

/// Elements that are stored, with every bond's gauge fixed or in plain cores.
int64_t parameter_count(const std::vector<Mpo>& terms, bool fixed_gauge);

}  // namespace schmidt::tn
