#pragma once

#include <string>
#include <string_view>

#include "schmidt/cli/command_line.h"

/// Scripts that complete the program's verbs, options, choices, files and models in a shell. All
/// that they know stands in them: nothing is run when a key is pressed. Models of the hub's cache
/// are looked up by the rule of io/hub_cache.h.
namespace schmidt::cli {

/// In single quotes as bash and zsh read them, with a backslash before each of `special`.
std::string quoted(const std::string& text, std::string_view special = "");

std::string bash_completion(const CommandForm& command);
std::string zsh_completion(const CommandForm& command);
std::string fish_completion(const CommandForm& command);

}  // namespace schmidt::cli
