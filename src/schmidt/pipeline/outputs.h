#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "schmidt/base/output_place.h"

namespace schmidt::pipeline {

/// The place where a file is to be written, its links followed: a new file or, with `force`, one
/// that schmidt wrote. Rank 0 looks for all.
/// Throws c10::ValueError, SystemError.
std::filesystem::path output_file(const std::filesystem::path& file, bool force,
                                  const std::vector<InputPath>& inputs);

/// The place where a folder is to be written, its links followed. OUT, its unfinished work and
/// `beside`, other folders that the run writes, have to be apart from each other and from all
/// that it reads. Rank 0 looks for all.
/// Throws c10::ValueError, SystemError.
std::filesystem::path output_folder(const std::filesystem::path& out,
                                    const std::vector<std::filesystem::path>& beside,
                                    const std::vector<InputPath>& inputs);

}  // namespace schmidt::pipeline
