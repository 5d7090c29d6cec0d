#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Joshi et al. 2017, arXiv 1705.03551, without context. Lines of question and answer.aliases,
/// as the hub has them, or of context ("Question: ..\nAnswer:") and aliases.
Task triviaqa();

}  // namespace schmidt::eval
