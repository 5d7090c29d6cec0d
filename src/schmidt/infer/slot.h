#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "schmidt/infer/request.h"
#include "schmidt/model/model.h"

namespace schmidt::infer {

using Clock = std::chrono::steady_clock;

/// A request on its way: waiting, or in a slot.
struct Job {
  uint64_t id = 0;
  Request request;
  Listener listener;
  Clock::time_point submitted;
};

/// An answer that grows in a slot.
struct Running {
  Job job;
  std::vector<int64_t> tokens;  ///< prompt and answer
  model::Sampler sampler;
  int64_t max_size = 0;  ///< tokens that `tokens` may grow to
  Outcome outcome;

  Running(Job started, int64_t context);
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t prompt_size() const { return static_cast<int64_t>(job.request.prompt.size()); }
  bool has_drawn() const { return outcome.generated_tokens > 0; }
};

/// A row of the cache: what it holds, and the answer that grows in it. What one answer leaves
/// stays for the next that begins alike.
struct Slot {
  std::vector<int64_t> held;       ///< the tokens whose keys and values the row holds
  std::vector<TokenScore> scores;  ///< scores[i] of held[i + 1]; the first ones, as far as known
  int64_t top = 0;                 ///< likeliest tokens in each of them
  uint64_t last_used = 0;          ///< grows with each admission
  std::optional<Running> running;  ///< none: the slot is free
};

/// How many tokens of the row `request` can go on from. The last token of a prompt is always run,
/// for it is what the answer continues; a scored prompt needs the scores of what is not run.
int64_t reusable_tokens(const Slot& slot, const Request& request, const model::RopeConfig& rope);

/// Where a request goes, and what it goes on from.
struct Place {
  size_t slot = 0;     ///< a free one
  size_t source = 0;   ///< whose row begins alike, running or free; `slot` itself where none does
  int64_t reused = 0;  ///< tokens of that row, at most reusable_tokens()
};

/// The longest prefix that any row holds, and a free slot that loses least: the row that has the
/// prefix if the request goes on from most of it, else an empty slot, else the one that has been
/// idle for longest. One of the slots has to be free.
Place choose_place(const std::vector<Slot>& slots, const Request& request,
                   const model::RopeConfig& rope);

/// Puts a job into its place: its row of the cache holds the reused tokens alone, which it shares
/// with the source.
void start(std::vector<Slot>& slots, const Place& place, Job job, model::KvCache& cache);

/// Whether the prompt has to be read in one step: the angles of one that dynamic scaling
/// stretches are those of its whole length.
bool read_whole(int64_t tokens, const model::RopeConfig& rope);

}  // namespace schmidt::infer
