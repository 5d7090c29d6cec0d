#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace schmidt::parallel {

/// Sleeps between two looks at something that another process will do: short at first,
/// longer as it takes longer. Ranks may share a core, so that looking without sleep
/// would hold up what is looked for.
class Pause {
 public:
  void operator()() {
    std::this_thread::sleep_for(length_);
    length_ = std::min(length_ + length_ / 8, kLongest);
  }
  void reset() { length_ = kShortest; }

 private:
  static constexpr std::chrono::microseconds kShortest{20}, kLongest{250};
  std::chrono::microseconds length_ = kShortest;
};

}  // namespace schmidt::parallel
