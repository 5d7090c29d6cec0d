#pragma once

#include <string>

#include "schmidt/cli/command_line.h"

namespace schmidt::cli {

/// The manual page schmidt(1) in the macros of man(7): every verb with its options.
std::string man_page(const CommandForm& command, const std::string& version);

}  // namespace schmidt::cli
