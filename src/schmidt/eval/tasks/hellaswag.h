#pragma once

#include "schmidt/eval/task.h"

namespace schmidt::eval {

/// Zellers et al. 2019, arXiv 1905.07830: how a scene goes on. Lines as the hub has them
/// (activity_label, ctx_a, ctx_b, endings, label), or in the harness's own form (query,
/// choices, gold).
Task hellaswag();

}  // namespace schmidt::eval
