#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Bisk et al. 2020, arXiv 1911.11641: which of two ways reaches a goal. Lines of goal, sol1,
/// sol2 and label (0 or 1).
Task piqa();

}  // namespace schmidt::eval
