#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/cli/command_line.h"
#include "schmidt/cli/verbs.h"

/// Verbs as functions, for a program of which they are a part: its arguments are those of a
/// command line, which the verb's own parser reads, and its result is what --json prints.
namespace schmidt::cli {

/// The verbs that can be called, without the options that say how much is printed.
std::vector<VerbForm> callable_verbs();

/// Throws c10::ValueError for arguments that the verb does not take, Interrupted for work that the
/// caller ends, and as the verb.
nlohmann::ordered_json call_verb(const std::string& name, const std::vector<std::string>& arguments,
                                 const Caller& caller);

}  // namespace schmidt::cli
