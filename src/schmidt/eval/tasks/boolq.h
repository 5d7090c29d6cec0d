#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Clark et al. 2019, arXiv 1905.10044: yes or no, by a passage. Lines of passage, question and
/// answer (true or false, also as a word) or label (1 or 0).
Task boolq();

}  // namespace schmidt::eval
