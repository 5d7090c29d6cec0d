#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Every benchmark. Source of the wording: lm-evaluation-harness 0.4.13, lm_eval/tasks.
std::span<const Task> tasks();

/// Throws c10::ValueError, naming those that exist.
const Task& find_task(std::string_view name);

/// The questions of all sets, one after another.
std::vector<Question> all_questions(std::vector<QuestionSet> sets);

}  // namespace schmidt::eval
