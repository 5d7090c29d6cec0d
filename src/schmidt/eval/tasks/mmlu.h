#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Hendrycks et al. 2021, arXiv 2009.03300: 57 subjects in four categories. From
/// mmlu/test/<subject>_test.csv, worked examples from the first rows of
/// mmlu/dev/<subject>_dev.csv; rows of question, four answers and the right one's letter.
Task mmlu();

}  // namespace schmidt::eval
