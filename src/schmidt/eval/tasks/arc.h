#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Clark et al. 2018, arXiv 1803.05457: science questions of schools. Lines of question,
/// choices.text, choices.label and answerKey.
Task arc_easy();
Task arc_challenge();

}  // namespace schmidt::eval
