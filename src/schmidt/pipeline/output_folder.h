#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "schmidt/base/output_place.h"

namespace schmidt::pipeline {

/// The place where a folder is to be written, its links followed. OUT, its unfinished work and
/// `beside`, other folders that the run writes, have to be apart from each other and from all
/// that it reads. Rank 0 looks for all.
/// Throws c10::ValueError, SystemError.
std::filesystem::path output_folder(const std::string& out,
                                    const std::vector<std::filesystem::path>& beside,
                                    const std::vector<InputPath>& inputs);

/// Inputs of one kind.
std::vector<InputPath> inputs_of(const std::string& what, const std::vector<std::string>& paths);

}  // namespace schmidt::pipeline
