#pragma once

#include <string>

#include "schmidt/cli/command_line.h"

/// Scripts that complete the program's verbs, options, choices, files and models in a shell. All
/// that they know stands in them: nothing is run when a key is pressed. Models of the hub's cache
/// are looked up by the rule of io/hub_cache.h.
namespace schmidt::cli {

std::string bash_completion(const CommandForm& command);
std::string zsh_completion(const CommandForm& command);
std::string fish_completion(const CommandForm& command);

}  // namespace schmidt::cli
