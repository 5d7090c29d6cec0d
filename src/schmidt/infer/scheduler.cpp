#include "schmidt/infer/scheduler.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "schmidt/model/sequence.h"

namespace schmidt::infer {
namespace {

// Rows of logits that are scored at once: a vocabulary's row may take half a megabyte.
constexpr int64_t kScoredRows = 64;

SchedulerOptions checked(SchedulerOptions options, const model::ModelConfig& config) {
  TORCH_CHECK_VALUE(options.slots >= 1 && options.slots <= 4096,
                    "[scheduler] expected 1 to 4096 slots, got ", options.slots);
  TORCH_CHECK_VALUE(options.context >= 1 && options.context <= config.max_positions,
                    "[scheduler] expected a context in [1, ", config.max_positions, "], got ",
                    options.context);
  TORCH_CHECK_VALUE(options.max_waiting >= 1 && options.prefill_tokens >= 1,
                    "[scheduler] expected room for 1 request or more and prompts read by 1 token "
                    "or more, got ",
                    options.max_waiting, " and ", options.prefill_tokens);
  for (const int64_t id : options.never_drawn) {
    TORCH_CHECK_VALUE(id >= 0 && id < config.vocab_size, "[scheduler] expected ids in [0, ",
                      config.vocab_size, ") that are never drawn, got ", id);
  }
  return options;
}

std::string one_line(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  std::string message = c10_error != nullptr ? c10_error->what_without_backtrace() : error.what();
  message.resize(std::min(message.find('\n'), message.size()));
  return message;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Scheduler::Scheduler(model::Model model, SchedulerOptions options)
    : model_(std::move(model)),
      options_(checked(std::move(options), model_.config())),
      cache_(model_.make_cache(options_.slots, options_.context)),
      slots_(options_.slots) {
  stats_.slots = options_.slots;
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Scheduler::~Scheduler() {
  close();
  thread_.request_stop();
  thread_.join();
}

void Scheduler::check(const Request& request) const {
  const auto size = static_cast<int64_t>(request.prompt.size());
  TORCH_CHECK_VALUE(size >= 1, "[scheduler] expected a token or more in the prompt, got none");
  TORCH_CHECK_VALUE(size <= options_.context, "[scheduler] expected at most ", options_.context,
                    " tokens in the prompt, the context, got ", size);
  for (const int64_t id : request.prompt) {
    TORCH_CHECK_VALUE(id >= 0 && id < model_.config().vocab_size,
                      "[scheduler] expected ids in [0, ", model_.config().vocab_size,
                      ") in the prompt, got ", id);
  }
  TORCH_CHECK_VALUE(request.max_new_tokens >= 0, "[scheduler] expected 0 new tokens or more, got ",
                    request.max_new_tokens);
  TORCH_CHECK_VALUE(request.top_scores.value_or(0) >= 0 &&
                        (request.top_scores.has_value() || !request.score_prompt),
                    "[scheduler] expected scores with 0 or more likeliest tokens");
  model::check_sampling(request.sampling);
}

std::vector<uint64_t> Scheduler::submit(std::vector<Submission> submissions) {
  for (const Submission& submission : submissions) check(submission.request);
  std::vector<uint64_t> ids;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) {
      stats_.refused += static_cast<int64_t>(submissions.size());
      throw Refused(Refused::Reason::kClosed, "no request is taken any more");
    }
    if (std::cmp_greater(waiting_.size() + submissions.size(), options_.max_waiting)) {
      stats_.refused += static_cast<int64_t>(submissions.size());
      throw Refused(Refused::Reason::kFull,
                    std::to_string(waiting_.size()) + " requests wait already");
    }
    const auto now = Clock::now();
    for (Submission& s : submissions) {
      ids.push_back(next_id_);
      waiting_.push_back({next_id_++, std::move(s.request), std::move(s.listener), now});
    }
    unfinished_ += static_cast<int64_t>(submissions.size());
  }
  wake_.notify_all();
  return ids;
}

void Scheduler::cancel(uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    if (unfinished_ == 0) return;
    to_cancel_.insert(id);
  }
  wake_.notify_all();
}

void Scheduler::cancel_all() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_below_ = next_id_;
  }
  wake_.notify_all();
}

void Scheduler::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Scheduler::wait_idle(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, at_most, [&] { return unfinished_ == 0; });
}

SchedulerStats Scheduler::stats() const {
  const std::lock_guard lock(mutex_);
  SchedulerStats stats = stats_;
  stats.waiting = static_cast<int64_t>(waiting_.size());
  return stats;
}

bool Scheduler::busy() const {
  return std::ranges::any_of(slots_, [](const Slot& slot) { return slot.running.has_value(); });
}

void Scheduler::run(const std::stop_token& stop) {
  const at::NoGradGuard no_grad;
  at::init_num_threads();  // the number of threads is each thread's own
  while (begin_round(stop)) {
    prefill();
    decode();
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].running) end(i, Ending::kCancelled);
  }
  std::deque<Job> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(waiting_);
  }
  for (const Job& job : left) report(job, {.ending = Ending::kCancelled});
}

/// Waits for work, ends what was cancelled and fills the free slots; false: the end.
bool Scheduler::begin_round(const std::stop_token& stop) {
  std::set<uint64_t> ids;
  uint64_t below = 0;
  const auto is_cancelled = [&](const Job& job) { return job.id < below || ids.contains(job.id); };
  std::vector<Job> dropped, admitted;
  {
    std::unique_lock lock(mutex_);
    if (!busy()) {
      wake_.wait(lock, stop, [&] { return !waiting_.empty() || !to_cancel_.empty(); });
    }
    if (stop.stop_requested()) return false;
    ids.swap(to_cancel_);
    below = cancelled_below_;
    int64_t free = std::ranges::count_if(
        slots_, [&](const Slot& slot) { return !slot.running || is_cancelled(slot.running->job); });
    std::deque<Job> left;
    for (Job& job : waiting_) {
      const bool drop = is_cancelled(job);
      std::vector<Job>& taken = drop ? dropped : admitted;
      if (!drop && free == 0) {
        left.push_back(std::move(job));
        continue;
      }
      if (!drop) --free;
      taken.push_back(std::move(job));
    }
    waiting_.swap(left);
  }
  for (const Job& job : dropped) {
    report(job, {.ending = Ending::kCancelled,
                 .prompt_tokens = static_cast<int64_t>(job.request.prompt.size())});
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].running && is_cancelled(slots_[i].running->job)) end(i, Ending::kCancelled);
  }
  for (Job& job : admitted) {
    Job held;  // without the request, which goes on
    held.id = job.id;
    held.listener = job.listener;
    held.submitted = job.submitted;
    try {
      admit(std::move(job));
    } catch (const std::exception& e) {
      const auto slot = std::ranges::find_if(
          slots_, [&](const Slot& s) { return s.running && s.running->job.id == held.id; });
      if (slot != slots_.end()) {
        end(static_cast<size_t>(slot - slots_.begin()), Ending::kFailed, one_line(e));
      } else {
        report(held, {.ending = Ending::kFailed, .error = one_line(e)});
      }
    }
  }
  return true;
}

void Scheduler::admit(Job job) {
  const Place place = choose_place(slots_, job.request, model_.config().rope);
  const size_t best = place.slot;
  const int64_t reused = place.reused;
  Slot& slot = slots_[best];
  slot.last_used = ++admissions_;
  start(slots_, place, std::move(job), cache_);
  {
    const std::lock_guard lock(mutex_);
    ++stats_.running;
    stats_.prompt_tokens += slot.running->prompt_size();
    stats_.reused_tokens += reused;
  }
  const Request& request = slot.running->job.request;
  if (request.max_new_tokens == 0 && !request.score_prompt) end(best, Ending::kLength);
}

void Scheduler::prefill() {
  std::vector<Piece> left;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].running || slots_[i].running->has_drawn()) continue;
    left.push_back({i, slots_[i].running->size() - static_cast<int64_t>(slots_[i].held.size())});
  }
  if (left.empty()) return;
  std::ranges::sort(left, {}, &Piece::tokens);
  std::vector<Piece> pieces;
  int64_t budget = options_.prefill_tokens;
  auto sharers = static_cast<int64_t>(left.size());
  for (Piece piece : left) {
    const int64_t share = std::max<int64_t>(budget / sharers--, pieces.empty() ? 1 : 0);
    if (!read_whole(slots_[piece.slot].running->size(), model_.config().rope)) {
      piece.tokens = std::min(piece.tokens, share);
    }
    budget = std::max<int64_t>(budget - piece.tokens, 0);
    if (piece.tokens > 0) pieces.push_back(piece);
  }
  step(pieces);
}

void Scheduler::decode() {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].running && slots_[i].running->has_drawn() &&
        std::cmp_less(slots_[i].held.size(), slots_[i].running->size())) {
      pieces.push_back({i, 1});
    }
  }
  if (!pieces.empty()) step(pieces);
}

/// How many of a piece's last states are asked for: all where the prompt is scored.
int64_t Scheduler::wanted_states(const Piece& piece) const {
  const Running& running = *slots_[piece.slot].running;
  return running.job.request.score_prompt && !running.has_drawn() ? piece.tokens : 1;
}

/// The model's states that are asked for, piece by piece in the order of slots; [states, hidden].
torch::Tensor Scheduler::states_of(const std::vector<Piece>& pieces) {
  int64_t widest = 0;
  for (const Piece& piece : pieces) widest = std::max(widest, piece.tokens);
  std::vector<int64_t> lengths(slots_.size(), 0), wanted(slots_.size(), 0);
  const torch::Tensor ids = at::zeros({options_.slots, widest}, torch::kInt64);
  for (const Piece& piece : pieces) {
    const Slot& slot = slots_[piece.slot];
    lengths[piece.slot] = piece.tokens;
    wanted[piece.slot] = wanted_states(piece);
    std::copy_n(slot.running->tokens.begin() + static_cast<std::ptrdiff_t>(slot.held.size()),
                piece.tokens,
                ids.mutable_data_ptr<int64_t>() + static_cast<int64_t>(piece.slot) * widest);
  }
  return model_.step_states(ids, lengths, wanted, cache_);
}

/// One step of the model over pieces of some slots. Where it fails, as for want of memory, each
/// piece is tried alone, and what fails alone, without idle rows beside it, ends its own answer.
void Scheduler::step(const std::vector<Piece>& pieces) try {
  const auto started = Clock::now();
  const bool decoding = slots_[pieces.front().slot].running->has_drawn();
  torch::Tensor states;
  try {
    states = states_of(pieces);
  } catch (const std::exception& e) {
    return retry(pieces, one_line(e));
  }
  double counted = 0;
  const auto count_seconds = [&] {  // those since the last call, with mutex_ held
    const double now = seconds_since(started);
    (decoding ? stats_.decode_seconds : stats_.prefill_seconds) += now - counted;
    counted = now;
  };
  {  // before a listener hears of the step, and may ask for the figures
    const std::lock_guard lock(mutex_);
    stats_.cache_bytes = cache_.bytes();
    ++(decoding ? stats_.decode_steps : stats_.prefill_steps);
    count_seconds();
  }

  std::vector<Piece> in_order = pieces;
  std::ranges::sort(in_order, {}, &Piece::slot);
  std::vector<int64_t> last;
  std::vector<size_t> ready;
  int64_t begin = 0;
  for (const Piece& piece : in_order) {
    const int64_t wanted = wanted_states(piece);
    take_up(piece, states.narrow(0, begin, wanted));
    begin += wanted;
    const auto& running = slots_[piece.slot].running;
    if (running && std::cmp_equal(slots_[piece.slot].held.size(), running->size())) {
      ready.push_back(piece.slot);
      last.push_back(begin - 1);
    }
  }
  if (!ready.empty()) draw(ready, states, last);
  const std::lock_guard lock(mutex_);
  count_seconds();
} catch (const std::exception& e) {
  for (const Piece& piece : pieces) {
    if (slots_[piece.slot].running) end(piece.slot, Ending::kFailed, one_line(e));
  }
}

/// After a step that failed: makes room, and tries the pieces one by one.
void Scheduler::retry(const std::vector<Piece>& pieces, const std::string& error) {
  for (const Piece& piece : pieces) {
    cache_.truncate(static_cast<int64_t>(piece.slot),
                    static_cast<int64_t>(slots_[piece.slot].held.size()));
  }
  const bool has_more_room = drop_idle();
  if (pieces.size() == 1) {
    if (has_more_room) return step(pieces);
    const size_t slot = pieces.front().slot;
    end(slot, Ending::kFailed, error);
    return forget(slot);
  }
  // The newest first: what it gives up is there for those that have waited longer.
  std::vector<Piece> newest = pieces;
  std::ranges::sort(newest, std::greater{},
                    [&](const Piece& piece) { return slots_[piece.slot].running->job.id; });
  for (const Piece& piece : newest) step({piece});
}

/// Gives back the rows of all free slots; -> whether there is more memory now.
bool Scheduler::drop_idle() {
  const int64_t before = cache_.bytes();
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].running) forget(i);
  }
  return cache_.bytes() < before;
}

/// Gives back what the row of a free slot holds.
void Scheduler::forget(size_t slot) {
  cache_.truncate(static_cast<int64_t>(slot), 0);
  slots_[slot].held.clear();
  slots_[slot].scores.clear();
}

/// The slot holds the piece's tokens now; states [wanted_states(piece), hidden].
void Scheduler::take_up(const Piece& piece, const torch::Tensor& states) {
  Slot& slot = slots_[piece.slot];
  Running& running = *slot.running;
  const auto past = static_cast<int64_t>(slot.held.size());
  const auto from = running.tokens.begin() + past;
  slot.held.insert(slot.held.end(), from, from + piece.tokens);
  const Request& request = running.job.request;
  if (!request.score_prompt || running.has_drawn()) return;
  try {
    const int64_t scored = std::min(piece.tokens, running.prompt_size() - 1 - past);
    for (int64_t begin = 0; begin < scored; begin += kScoredRows) {
      const int64_t rows = std::min(kScoredRows, scored - begin);
      const auto next = from + begin + 1;
      std::vector<TokenScore> scores =
          score_tokens(model_.logits(states.narrow(0, begin, rows)),
                       std::vector<int64_t>(next, next + rows), *request.top_scores);
      std::ranges::move(scores, std::back_inserter(slot.scores));
    }
    if (std::cmp_less(slot.held.size(), running.prompt_size())) return;
    if (running.job.listener.on_prompt) running.job.listener.on_prompt(slot.scores);
    if (request.max_new_tokens == 0) end(piece.slot, Ending::kLength);
  } catch (const std::exception& e) {
    end(piece.slot, Ending::kFailed, one_line(e));
  }
}

/// Draws the next token of each of the slots from the states' rows `last`.
void Scheduler::draw(const std::vector<size_t>& ready, const torch::Tensor& states,
                     const std::vector<int64_t>& last) {
  const bool likeliest = std::ranges::all_of(ready, [&](size_t slot) {
    const Running& running = *slots_[slot].running;
    return running.sampler.takes_likeliest() && !running.job.request.top_scores;
  });
  std::optional<model::NextTokens> next;
  try {
    next.emplace(model_, states.index_select(0, at::tensor(last, at::kLong).to(states.device())),
                 options_.never_drawn, likeliest);
  } catch (const std::exception& e) {
    if (ready.size() == 1) {
      if (drop_idle()) return draw(ready, states, last);
      return end(ready.front(), Ending::kFailed, one_line(e));
    }
    for (size_t i = 0; i < ready.size(); ++i) draw({ready[i]}, states, {last[i]});
    return;
  }
  // A draw looks at the whole vocabulary: several at a time.
  std::vector<DrawnToken> tokens(ready.size());
  std::vector<std::optional<std::string>> errors(ready.size());
  at::parallel_for(0, static_cast<int64_t>(ready.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto i = static_cast<size_t>(row);
      Running& running = *slots_[ready[i]].running;
      try {
        DrawnToken& token = tokens[i];
        token.id = next->draw(row, running.sampler, running.tokens);
        token.ends_text = !running.job.request.ignore_eos &&
                          std::ranges::find(options_.eos_ids, token.id) != options_.eos_ids.end();
        if (const auto top = running.job.request.top_scores) {
          token.score = score_tokens(next->logits().narrow(0, row, 1), {token.id}, *top).front();
        }
      } catch (const std::exception& e) {
        errors[i] = one_line(e);
      }
    }
  });
  for (size_t i = 0; i < ready.size(); ++i) {
    try {
      if (errors[i]) {
        end(ready[i], Ending::kFailed, *errors[i]);
      } else {
        hand_out(ready[i], std::move(tokens[i]));
      }
    } catch (const std::exception& e) {
      end(ready[i], Ending::kFailed, one_line(e));
    }
  }
}

void Scheduler::hand_out(size_t slot, DrawnToken token) {
  Running& running = *slots_[slot].running;
  if (!running.has_drawn()) {
    running.outcome.first_token_seconds = seconds_since(running.job.submitted);
  }
  ++running.outcome.generated_tokens;
  {
    const std::lock_guard lock(mutex_);
    ++stats_.generated_tokens;
    if (running.outcome.generated_tokens == 1) {
      ++stats_.first_tokens;
      stats_.first_token_seconds += running.outcome.first_token_seconds;
    }
  }
  if (!token.ends_text) running.tokens.push_back(token.id);
  const auto& on_token = running.job.listener.on_token;
  const bool goes_on = !on_token || on_token(token);
  if (token.ends_text) {
    end(slot, Ending::kEos);
  } else if (!goes_on) {
    end(slot, Ending::kStopped);
  } else if (running.size() >= running.max_size) {
    end(slot, Ending::kLength);
  }
}

void Scheduler::end(size_t slot, Ending ending, const std::string& error) {
  Running running = std::move(*slots_[slot].running);
  slots_[slot].running.reset();
  running.outcome.ending = ending;
  running.outcome.error = error;
  {
    const std::lock_guard lock(mutex_);
    --stats_.running;
  }
  report(running.job, std::move(running.outcome));
}

void Scheduler::report(const Job& job, Outcome outcome) {
  outcome.seconds = seconds_since(job.submitted);
  {
    const std::lock_guard lock(mutex_);
    switch (outcome.ending) {
      case Ending::kCancelled:
        ++stats_.cancelled;
        break;
      case Ending::kFailed:
        ++stats_.failed;
        break;
      default:
        ++stats_.completed;
    }
  }
  try {
    if (job.listener.on_end) job.listener.on_end(outcome);
  } catch (const std::exception&) {
    // The answer has ended; nobody is left to be told.
  }
  const std::lock_guard lock(mutex_);
  to_cancel_.erase(job.id);
  if (--unfinished_ == 0) {
    to_cancel_.clear();
    idle_.notify_all();
  }
}

}  // namespace schmidt::infer
