#pragma once

#include <filesystem>

#include "schmidt/report/run_facts.h"

namespace schmidt::pipeline {

/// Writes the page of a run (report/run_page.h) to `out`, a new .html file or, with `force`, one
/// that schmidt wrote; its links lead to the run's folder from there.
/// Throws as read_run; c10::ValueError for an `out` that may not be written, SystemError.
report::RunFacts report_run(const std::filesystem::path& folder, const std::filesystem::path& out,
                            bool force);

}  // namespace schmidt::pipeline
