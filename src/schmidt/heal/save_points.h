#pragma once

#include <chrono>
#include <functional>

#include "schmidt/heal/team.h"

namespace schmidt::heal {

/// When a run saves its state, and when it ends before its time: the same on all ranks.
class SavePoints {
 public:
  /// interrupted: asked on every rank, may be empty; minutes: between saved states.
  SavePoints(Team& team, std::function<bool()> interrupted, double minutes);

  struct Wishes {
    bool stop;  ///< save and end: any rank was interrupted
    bool save;  ///< also true where the leader's clock has run out
  };
  /// Every rank asks at the same point of its work. Throws parallel::LostRank.
  Wishes ask();

  /// A state has been saved: starts the leader's clock anew.
  void saved() { saved_ = std::chrono::steady_clock::now(); }

 private:
  Team& team_;
  std::function<bool()> interrupted_;
  double minutes_;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

}  // namespace schmidt::heal
