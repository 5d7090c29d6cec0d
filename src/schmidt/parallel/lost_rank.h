#pragma once

#include <stdexcept>

namespace schmidt::parallel {

/// Another rank died, stopped or hangs: it did not answer within the deadline. One line,
/// which names the ranks and what was waited for. Nothing can be exchanged any more; the
/// command line ends all ranks and answers with exit code 2.
class LostRank : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace schmidt::parallel
