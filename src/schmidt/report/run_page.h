#pragma once

#include <string>
#include <string_view>

#include "schmidt/report/page.h"
#include "schmidt/report/run_facts.h"

namespace schmidt::report {

/// What a run found, in a sentence: its smallest model, and what that loses against the original.
std::vector<Cell> finding_of(const RunFacts& facts, std::string_view folder);

/// A run in one page that opens without a network: what it found, the paper's tables and figures,
/// samples of text, how it was made. What the run does not have is left out. `folder` is the run's
/// folder as seen from the page, to which the numbers link: "", "../out/".
std::string run_page(const RunFacts& facts, std::string_view folder);

}  // namespace schmidt::report
