#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Cobbe et al. 2021, arXiv 2110.14168: word problems whose answer ends with "#### 18". Lines
/// of question and answer.
Task gsm8k();

}  // namespace schmidt::eval
