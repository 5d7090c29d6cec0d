#pragma once

#include <string_view>

#include "schmidt/report/page.h"
#include "schmidt/report/run_facts.h"

/// The figures of a run's page, each with what it shows in a sentence and the numbers that it is
/// drawn from. `folder` is the run's folder as seen from the page.
namespace schmidt::report {

/// What each size costs in quality: the perplexity on each text against bytes and against the time
/// of a token.
std::vector<Figure> quality_figures(const RunFacts& facts, std::string_view folder);

/// Sizes, and the time of a token relative to the original's.
std::vector<Figure> cost_figures(const RunFacts& facts, std::string_view folder);

/// One weight as a network, and how many numbers that takes.
std::vector<Figure> decomposition_figures(const RunFacts& facts);

/// Curves of each healing run, and their times where there are several.
std::vector<Figure> healing_figures(const RunFacts& facts, std::string_view folder);

}  // namespace schmidt::report
