#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "schmidt/pipeline/form_times.h"

namespace schmidt::cli {

/// Names of the options on the command line: "--keep".
std::set<std::string> given_options(const CLI::App& verb);

/// The methods that make integers of few bits, or those that make networks.
std::vector<std::string> method_names(bool integers);
std::vector<std::string> all_method_names();

/// --forms; `with` is the option that asks for them.
void add_forms_option(CLI::App& verb, std::vector<std::string>& forms, const std::string& with);

/// --speedup and the options of the work whose speed counts; `with` is what --speedup stands in
/// place of or beside.
void add_speed_options(CLI::App& verb, std::optional<double>& speedup, std::string& speed_of,
                       pipeline::Workload& workload, const std::string& with);

/// Options that have an effect on a condition only.
struct ConditionalOptions {
  std::vector<const char*> names;
  bool read = false;    ///< whether anything reads them in this run
  const char* by = "";  ///< what would: "--held-out above 0"
};

/// Those of the speed options beside --speedup.
std::vector<ConditionalOptions> speed_conditions(bool asked, const std::string& speed_of);

/// An option that nothing reads is a mistake about what is going to happen.
/// Throws c10::ValueError for the first that was given; `verb` opens the message.
void check_options_are_read(const std::string& verb, const std::set<std::string>& given,
                            const std::vector<ConditionalOptions>& options);

}  // namespace schmidt::cli
