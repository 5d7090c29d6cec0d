#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace schmidt {

/// How far a long piece of work has come. Library code reports; only the
/// command line shows it.
struct Progress {
  std::string_view stage;  ///< what is being worked on, e.g. "evaluate"
  std::string_view item;   ///< the current item, e.g. a layer's name; may be empty
  int64_t done = 0;        ///< units finished
  int64_t total = 0;       ///< units in all; 0 where it is not known
  std::string_view unit;   ///< what is counted, e.g. "tokens"
};

/// Called from the working thread; must return quickly. May be empty.
using ProgressFn = std::function<void(const Progress&)>;

/// Called with what a user should know although the work goes on. May be empty.
using NoteFn = std::function<void(const std::string& note)>;

/// Who is told of a long piece of work.
struct Reporter {
  ProgressFn progress;
  NoteFn note;

  void tell(const std::string& text) const {
    if (note) note(text);
  }
};

}  // namespace schmidt
