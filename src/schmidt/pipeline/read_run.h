#pragma once

#include <filesystem>

#include "schmidt/report/run_facts.h"

namespace schmidt::pipeline {

/// What the folder of a run holds (run_record.h): the models by what their stages said of their
/// sizes, the results of evaluations, benchmarks of speed, profiles, healing and generated text as
/// their files hold them. Of a stage whose result is no longer there only that is said.
/// Throws c10::ValueError for a folder that is none of a run, or one in which no stage is finished;
/// FormatError for a file in it that does not hold what its stage writes; SystemError.
report::RunFacts read_run(const std::filesystem::path& folder);

}  // namespace schmidt::pipeline
