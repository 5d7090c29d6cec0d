#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Paperno et al. 2016, arXiv 1606.06031: the last word of a passage. Lines of text; of OpenAI's
/// processing, or as its authors publish it.
Task lambada_openai();
Task lambada_standard();

}  // namespace schmidt::eval
