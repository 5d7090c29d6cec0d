#pragma once

namespace schmidt::cli {

/// All that `schmidt` does, from its arguments to its exit code (exit_code.h): prints results and
/// errors, throws nothing. Where ranks work together a failure ends the others.
int run_program(int argc, char** argv);

}  // namespace schmidt::cli
