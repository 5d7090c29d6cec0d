#pragma once

#include <optional>
#include <string>

namespace schmidt {

/// What to say of an error of LibTorch that is one of memory, which it throws as it does others:
/// how much could not be had, without where in its sources. None for any other error.
std::optional<std::string> out_of_memory(const std::string& message);

}  // namespace schmidt
