#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "schmidt/base/progress.h"

namespace schmidt::cli {

/// Progress on stderr: one live line with rate and remaining time on a terminal,
/// a plain line now and then otherwise. Work under two seconds stays silent.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// A callback that must not outlive this object.
  ProgressFn callback();

  /// The same, with notes on lines of their own. Must not outlive this object.
  Reporter reporter();

  /// Takes the live line away, before something else is printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void show(const Progress& progress);

  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::string stage_;
  Clock::time_point started_;
  Clock::time_point shown_;
  int64_t first_done_ = 0, last_done_ = 0;
};

/// A table for people: columns as wide as their content, numbers to the right.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;

  std::string aligned() const;
  std::string markdown() const;
  std::string csv() const;
};

/// "134.5 M", "98.4 MB" (powers of 1000).
std::string human_count(double count);
std::string human_bytes(double bytes);
/// "1:02:03", "4:05".
std::string human_seconds(double seconds);

}  // namespace schmidt::cli
