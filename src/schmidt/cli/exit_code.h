#pragma once

#include <string_view>

namespace schmidt::cli {

/// What the program's exit code means is part of its interface: docs/usage.md lists it too.
/// kReaderLeft is what a shell reports of a program that SIGPIPE has ended.
enum ExitCode : int {
  kDone = 0,
  kDefect = 1,
  kCallersMistake = 2,
  kBadFile = 3,
  kInterrupted = 130,
  kTerminated = 143,
  kReaderLeft = 141
};

struct ExitCodeMeaning {
  ExitCode code;
  std::string_view meaning;
};

inline constexpr ExitCodeMeaning kExitCodes[] = {
    {kDone, "Done."},
    {kDefect, "A defect of schmidt."},
    {kCallersMistake,
     "The caller's mistake, or the system refused: no space, no memory, no permission."},
    {kBadFile, "A bad file."},
    {kInterrupted, "Stopped by Ctrl-C, after saving what can be resumed."},
    {kReaderLeft, "The reader of standard output closed it, as head does."},
    {kTerminated, "Stopped by SIGTERM, after saving what can be resumed."},
};

}  // namespace schmidt::cli
