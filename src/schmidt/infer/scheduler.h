#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "schmidt/infer/request.h"
#include "schmidt/infer/slot.h"
#include "schmidt/model/model.h"

namespace schmidt::infer {

struct SchedulerOptions {
  int64_t slots = 8;             ///< answers that grow at once; >= 1
  int64_t context = 4096;        ///< tokens of prompt and answer; in [1, max_positions]
  int64_t max_waiting = 1024;    ///< requests that wait for a slot; >= 1
  int64_t prefill_tokens = 256;  ///< tokens of prompts read between two steps of decoding; >= 1
  std::vector<int64_t> eos_ids = {};      ///< end an answer
  std::vector<int64_t> never_drawn = {};  ///< rows of the embedding that stand for no token
};

/// The scheduler takes no request: too many wait, or it is about to end.
class Refused : public std::runtime_error {
 public:
  enum class Reason { kFull, kClosed };
  Refused(Reason reason, const std::string& message)
      : std::runtime_error(message), reason_(reason) {}
  Reason reason() const { return reason_; }

 private:
  Reason reason_;
};

/// What a scheduler has done since it began, and does now.
struct SchedulerStats {
  int64_t slots = 0, running = 0, waiting = 0;  ///< now
  int64_t cache_bytes = 0;
  int64_t completed = 0, cancelled = 0, failed = 0, refused = 0;  ///< requests
  int64_t prompt_tokens = 0, reused_tokens = 0;                   ///< of admitted requests
  int64_t generated_tokens = 0;
  int64_t prefill_steps = 0, decode_steps = 0;
  double prefill_seconds = 0, decode_seconds = 0;  ///< in steps of the model
  int64_t first_tokens = 0;                        ///< answers that have one
  double first_token_seconds = 0;                  ///< sum over them, from submit()
};

/// Continues many prompts at once with one model: continuous batching.
///
///   submit ─► waiting ─► slot, with the longest common prefix ─► prefill ─► decode ─► on_end
///
/// Each round reads up to `prefill_tokens` tokens of the prompts, shared evenly by the slots that
/// have not read theirs, and then takes one token in every other slot, as a step of its own: a
/// long prompt delays the answers beside it by one piece and not by the whole. A step that fails,
/// as for want of memory, is tried again for each answer alone, in the room of the prefixes that
/// empty slots keep: those that fail there too end as kFailed and give back their memory, the
/// others go on.
///
/// What is drawn depends on the request alone, not on what runs beside it, up to rounding: a
/// product of several rows may sum in another order than one of a single row, and a prompt in
/// pieces in another than a whole one. In float32 that changes the last bits of the logits, so
/// that two tokens as good as equally likely may change places.
class Scheduler {
 public:
  /// Starts its thread. Throws c10::ValueError for an option out of range.
  Scheduler(model::Model model, SchedulerOptions options);

  /// Ends what waits and runs as kCancelled.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  struct Submission {
    Request request;
    Listener listener;
  };

  /// Throws c10::ValueError unless the prompt is of 1 .. context tokens of the vocabulary, and
  /// options are in range. submit() checks the same.
  void check(const Request& request) const;

  /// Takes all of them or none; -> their ids, for cancel(). Listeners may hear of tokens before
  /// it returns. Throws Refused, or c10::ValueError as check().
  std::vector<uint64_t> submit(std::vector<Submission> submissions);

  /// Ends a request after the step that runs, or the one after that; its listener hears of
  /// kCancelled. One that has ended already stays as it is.
  void cancel(uint64_t id);

  /// cancel() of all that were submitted so far.
  void cancel_all();

  /// From now on submit() refuses; what was submitted goes on.
  void close();

  /// Waits until nothing runs or waits; -> whether it came to that in time.
  bool wait_idle(std::chrono::milliseconds at_most);

  SchedulerStats stats() const;
  const SchedulerOptions& options() const { return options_; }
  const model::Model& model() const { return model_; }

 private:
  void run(const std::stop_token& stop);
  bool begin_round(const std::stop_token& stop);
  void admit(Job job);
  void prefill();
  void decode();
  struct Piece {
    size_t slot = 0;
    int64_t tokens = 0;
  };
  int64_t wanted_states(const Piece& piece) const;
  torch::Tensor states_of(const std::vector<Piece>& pieces);
  void step(const std::vector<Piece>& pieces);
  void retry(const std::vector<Piece>& pieces, const std::string& error);
  bool drop_idle();
  void forget(size_t slot);
  void take_up(const Piece& piece, const torch::Tensor& states);
  void draw(const std::vector<size_t>& ready, const torch::Tensor& states,
            const std::vector<int64_t>& last);
  void hand_out(size_t slot, DrawnToken token);
  void end(size_t slot, Ending ending, const std::string& error = {});
  void report(const Job& job, Outcome outcome);
  bool busy() const;

  const model::Model model_;
  const SchedulerOptions options_;

  // Of the thread alone.
  model::KvCache cache_;
  std::vector<Slot> slots_;
  uint64_t admissions_ = 0;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable_any wake_, idle_;
  std::deque<Job> waiting_;
  std::set<uint64_t> to_cancel_;
  uint64_t cancelled_below_ = 0;  // so are all ids below
  uint64_t next_id_ = 1;
  int64_t unfinished_ = 0;
  bool closed_ = false;
  SchedulerStats stats_;

  std::jthread thread_;  // last: it ends before the rest
};

}  // namespace schmidt::infer
