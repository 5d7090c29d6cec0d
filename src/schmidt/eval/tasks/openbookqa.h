#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Mihaylov et al. 2018, arXiv 1809.02789. Lines of question_stem, choices.text,
/// choices.label and answerKey.
Task openbookqa();

}  // namespace schmidt::eval
