#pragma once

#include <CLI/CLI.hpp>

#include "schmidt/pipeline/calibration_text.h"

namespace schmidt::cli {

/// Adds --calibration and what belongs to it.
void add_calibration_options(CLI::App& verb, pipeline::CalibrationText& text);

}  // namespace schmidt::cli
