#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include <ATen/Parallel.h>

namespace schmidt::kernels {

/// What the members of a team have in common.
struct Team {
  alignas(64) std::atomic<int64_t> arrived = 0;   // at the next meeting
  alignas(64) std::atomic<int32_t> meetings = 0;  // that were held, and one more where one failed
  std::atomic<bool> failed = false;
  std::exception_ptr error;  // of the first that failed

  /// Ends the work of all, with the exception that is being handled.
  void fail();
};

/// What a member that waits for another one, which failed, is left with.
struct TeamFailed {};

/// Neighbours among things that are shared out.
struct Share {
  int64_t begin = 0, end = 0;

  bool empty() const { return begin >= end; }
};

/// One of the threads of a team. These go through the same steps and wait for each other between
/// them, which costs threads that are awake a fraction of what it costs to wake them for each step.
class Member {
 public:
  Member(Team& team, int64_t index, int64_t size) : team_(&team), index_(index), size_(size) {}

  int64_t index() const { return index_; }  ///< below the size of the team
  int64_t size() const { return size_; }    ///< of the team

  /// Returns once every member has called it as often: what each wrote before is there for all.
  /// Waits awake for some microseconds, then asleep. Throws TeamFailed where another has failed.
  void meet() const;

  /// This member's share of `count` things, of which `unit` neighbours stay together.
  Share share(int64_t count, int64_t unit = 1) const;

 private:
  Team* team_;
  int64_t index_, size_;
};

/// How many members run_team() has at most: as many as LibTorch has threads, and one inside of
/// another parallel region.
int64_t largest_team();

/// Runs work(member) on every thread of a team, or on this thread alone. Throws what the first
/// member threw that failed.
template <typename Work>
void run_team(bool alone, const Work& work) {
  Team team;
#ifdef _OPENMP
  if (!alone && largest_team() > 1) {
#pragma omp parallel
    {
      try {
        work(Member(team, omp_get_thread_num(), omp_get_num_threads()));
      } catch (const TeamFailed&) {
        // Who failed has said why.
      } catch (...) {
        team.fail();
      }
    }
    if (team.error) std::rethrow_exception(team.error);
    return;
  }
#endif
  work(Member(team, 0, 1));
}

}  // namespace schmidt::kernels
