#pragma once

#include <string>

#include "tests/support/shell.h"

namespace schmidt::test {

/// Runs `command` in bash, where $S is the program and words that begin with @ are names in the
/// folder; `input` is its standard input. A command that is the program, arguments and redirections
/// alone runs in a fork of this process, which has LibTorch loaded: to load it anew takes longer
/// than what most of them do.
Ran run_in_shell(const TemporaryFolder& folder, std::string command, const std::string& input = "");

}  // namespace schmidt::test
