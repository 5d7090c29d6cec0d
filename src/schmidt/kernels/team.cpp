#include "schmidt/kernels/team.h"

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace schmidt::kernels {
namespace {

/// Turns that a member waits awake: 5 to 25 microseconds by the processor, more than shares of a
/// step mostly differ by. Where another program has the core that a member needs, the others give
/// theirs up then: at four times as many two programs decoded at 0.7 of the speed.
constexpr int kTurns = 500;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

void Team::fail() {
  if (failed.exchange(true)) return;
  error = std::current_exception();
  meetings.fetch_add(1);
  meetings.notify_all();
}

void Member::meet() const {
  if (size_ == 1) return;
  const int32_t before = team_->meetings.load(std::memory_order_acquire);
  if (team_->failed.load(std::memory_order_acquire)) throw TeamFailed();
  if (team_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    team_->arrived.store(0, std::memory_order_relaxed);
    // In one order with what sleepers count: none is overlooked.
    team_->meetings.fetch_add(1, std::memory_order_seq_cst);
    team_->meetings.notify_all();
    return;
  }
  for (int turn = 0; turn < kTurns; ++turn) {
    if (team_->meetings.load(std::memory_order_acquire) != before) break;
    pause();
  }
  team_->meetings.wait(before, std::memory_order_acquire);
  if (team_->failed.load(std::memory_order_acquire)) throw TeamFailed();
}

Share Member::share(int64_t count, int64_t unit) const {
  const int64_t units = (count + unit - 1) / unit;
  const auto begin = [&](int64_t member) { return std::min(count, units * member / size_ * unit); };
  return {begin(index_), begin(index_ + 1)};
}

int64_t largest_team() {
  at::internal::lazy_init_num_threads();
  return at::in_parallel_region() ? 1 : at::get_num_threads();
}

}  // namespace schmidt::kernels
