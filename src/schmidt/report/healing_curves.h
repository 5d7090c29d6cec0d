#pragma once

#include <string>
#include <vector>

#include "schmidt/report/healing_log.h"

/// The curves of a healing run over its steps, each a document of SVG.
namespace schmidt::report {

std::string loss_figure(const HealingLog& log);
std::string cross_entropy_figure(const HealingLog& log);
std::string kl_figure(const HealingLog& log);

/// Learning rate, gradient norm, speed and memory.
std::vector<std::string> step_figures(const HealingLog& log);

/// The error of each block's output before and after healing by blocks.
std::string block_figure(const HealingLog& log);

}  // namespace schmidt::report
