#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schmidt/report/page.h"
#include "schmidt/report/run_facts.h"

/// The tables of a run's page. `folder` is the run's folder as seen from the page: "", "../out/".
namespace schmidt::report {

/// A link to a file of the run's folder, for the attribute of an element.
std::string link_to(std::string_view folder, std::string_view source);

/// A model's name, linked to the file that something of it stands in.
Cell model_cell(const RunFacts& facts, size_t model, std::string_view folder,
                const std::string& source);

/// The paper's first table: what each model takes.
void add_sizes(Page& page, const RunFacts& facts, std::string_view folder);

/// The paper's second table: what each model says, for each text and for the benchmarks.
void add_quality(Page& page, const RunFacts& facts, std::string_view folder);

/// The stages as commands, when and on what they ran.
void add_method(Page& page, const RunFacts& facts, std::string_view folder);

/// Stages that are not done, or whose results are gone, in a sentence; "" where there are none.
std::string unfinished_text(const RunFacts& facts);

}  // namespace schmidt::report
