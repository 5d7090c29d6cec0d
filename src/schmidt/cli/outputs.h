#pragma once

#include <filesystem>
#include <vector>

#include "schmidt/base/output_place.h"

namespace schmidt::cli {

/// The place where a file is to be written, its links followed: a new file or, with --force, one
/// that schmidt wrote. Rank 0 looks for all.
/// Throws c10::ValueError, SystemError.
std::filesystem::path output_file(const std::filesystem::path& file, bool force,
                                  const std::vector<InputPath>& inputs);

}  // namespace schmidt::cli
