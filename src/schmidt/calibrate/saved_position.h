#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/workers.h"

namespace schmidt::calibrate {

/// The last place of a model from which a killed run goes on with the streams of a text: a
/// number in a small file, and the streams kept beside it. What has been computed since then is
/// computed again, so a place is worth saving when that has come to take a while: a run writes
/// what it would need hours for, and nothing where it is over in a minute.
class SavedPosition {
 public:
  /// The record is `name`.json of the folder that the streams are kept in. `save_after`: seconds
  /// of work. All workers call all functions.
  SavedPosition(std::filesystem::path folder, const std::string& name, Workers workers,
                double save_after);

  /// The place that was saved last, by an earlier run too.
  std::optional<int64_t> place() const { return place_; }

  /// Counts the time until its end as work that would have to be done again. One at a time.
  class Work {
   public:
    explicit Work(SavedPosition& position) : position_(position) {}
    ~Work() { position_.seconds_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;

   private:
    using Clock = std::chrono::steady_clock;
    SavedPosition& position_;
    Clock::time_point begin_ = Clock::now();
  };

  /// Whether enough work was done since the last place, for all workers alike.
  bool due() const;

  /// Keeps the streams and has `place` stand for them; files of the place before that are not
  /// among them go. A kill at any moment leaves the one or the other whole.
  void save(int64_t place, const std::vector<ActivationStream*>& streams);

 private:
  std::filesystem::path file() const { return folder_ / (name_ + ".json"); }

  std::filesystem::path folder_;
  std::string name_;
  Workers workers_;
  double save_after_;
  double seconds_ = 0.0;
  std::optional<int64_t> place_;
  std::vector<std::string> files_;  // that the place is kept in
};

}  // namespace schmidt::calibrate
