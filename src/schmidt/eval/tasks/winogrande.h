#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Sakaguchi et al. 2020, arXiv 1907.10641: which of two words fills the gap "_". Each stands
/// in a prompt of its own, and the sentence's end is what is scored. Lines of sentence, option1,
/// option2 and answer (1 or 2).
Task winogrande();

}  // namespace schmidt::eval
