#pragma once

#include <stdexcept>
#include <string>

namespace schmidt::cli {

/// Work that a signal ended after it had been saved. The exit code is that of a program
/// that the signal ends: 128 and its number.
class Interrupted : public std::runtime_error {
 public:
  Interrupted(int signal, const std::string& message)
      : std::runtime_error(message), signal_(signal) {}
  int exit_code() const { return 128 + signal_; }

 private:
  int signal_;
};

/// A stage of a run that failed: its own program has said why.
class FailedStage : public std::runtime_error {
 public:
  explicit FailedStage(int exit_code)
      : std::runtime_error("a stage has failed"), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

}  // namespace schmidt::cli
