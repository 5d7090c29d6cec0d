#include "schmidt/heal/save_points.h"

#include <utility>

namespace schmidt::heal {

SavePoints::SavePoints(Team& team, std::function<bool()> interrupted, double minutes)
    : team_(team), interrupted_(std::move(interrupted)), minutes_(minutes) {}

SavePoints::Wishes SavePoints::ask() {
  const bool stop = interrupted_ && interrupted_();
  const std::chrono::duration<double, std::ratio<60>> since =
      std::chrono::steady_clock::now() - saved_;
  const bool save = team_.leads() && since.count() > minutes_;
  const std::vector<double> votes = sum_over(team_.all, {stop ? 1.0 : 0.0, save ? 1.0 : 0.0});
  return {votes[0] > 0, votes[0] + votes[1] > 0};
}

}  // namespace schmidt::heal
