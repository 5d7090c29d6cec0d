#include "schmidt/infer/scheduler.h"

#include <atomic>
#include <cmath>
#include <future>
#include <limits>
#include <random>

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/model/generate.h"

#include "tests/support/tiny_model.h"

namespace schmidt::infer {
namespace {

using namespace std::chrono_literals;

struct Answer {
  std::vector<int64_t> ids;  // an end-of-text token included
  std::vector<TokenScore> prompt_scores, scores;
  Outcome outcome;
};

// Collects what a listener hears.
struct Collected {
  Answer answer;
  std::promise<void> ended, began;
  int64_t stop_after = 1 << 20;
  std::function<void()> at_token = [] {};
};

Scheduler::Submission collecting(Request request, std::shared_ptr<Collected> into) {
  Listener listener;
  listener.on_prompt = [into](const std::vector<TokenScore>& scores) {
    into->answer.prompt_scores = scores;
  };
  listener.on_token = [into](const DrawnToken& token) {
    if (into->answer.ids.empty()) into->began.set_value();
    into->answer.ids.push_back(token.id);
    if (token.score) into->answer.scores.push_back(*token.score);
    into->at_token();
    return std::cmp_less(into->answer.ids.size(), into->stop_after);
  };
  listener.on_end = [into](const Outcome& outcome) {
    into->answer.outcome = outcome;
    into->ended.set_value();
  };
  return {std::move(request), std::move(listener)};
}

class SchedulerTest : public testing::Test {
 protected:
  static model::Model load() {
    const test::TinyModel tiny = test::make_tiny_model();
    return model::Model::load(tiny.config, model::Weights(tiny.tensors, "tiny"));
  }

  static SchedulerOptions options(int64_t slots = 4) {
    return {.slots = slots, .context = 128, .max_waiting = 64, .prefill_tokens = 16};
  }

  std::vector<int64_t> prompt(int64_t length, int64_t seed) const {
    std::mt19937_64 random(seed);
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int64_t>(random() % 264));
    return ids;
  }

  // What model::generate draws for it alone.
  std::vector<int64_t> alone(const Request& request) const {
    model::GenerateOptions o{.max_new_tokens = request.max_new_tokens,
                             .sampling = request.sampling,
                             .eos_ids = std::vector<int64_t>{}};
    return model::generate(model_, {request.prompt}, o).at(0).ids;
  }

  static Answer ask(Scheduler& scheduler, Request request) {
    auto collected = std::make_shared<Collected>();
    scheduler.submit({collecting(std::move(request), collected)});
    collected->ended.get_future().wait();
    return collected->answer;
  }

  model::Model model_ = load();
};

TEST_F(SchedulerTest, EveryAnswerIsTheOneGivenAlone) {
  std::vector<Request> requests;
  for (int64_t i = 0; i < 40; ++i) {
    Request request{.prompt = prompt(1 + (i * 7) % 60, i % 13), .max_new_tokens = 1 + i % 17};
    if (i % 3 != 0) {
      request.sampling = {
          .temperature = 0.9, .top_k = i % 2 == 0 ? 40 : 0, .seed = static_cast<uint64_t>(i)};
    }
    if (i % 4 == 1) {  // beside prompts of which the last state alone is asked for
      request.score_prompt = true;
      request.top_scores = 1;
    }
    requests.push_back(request);
  }
  Scheduler scheduler(model_, options());
  std::vector<std::shared_ptr<Collected>> all;
  for (const Request& request : requests) {
    all.push_back(std::make_shared<Collected>());
    scheduler.submit({collecting(request, all.back())});
  }
  for (size_t i = 0; i < all.size(); ++i) {
    all[i]->ended.get_future().wait();
    EXPECT_EQ(all[i]->answer.ids, alone(requests[i])) << i;
    EXPECT_EQ(all[i]->answer.outcome.ending, Ending::kLength);
    EXPECT_EQ(all[i]->answer.outcome.prompt_tokens, requests[i].prompt.size());
    if (!requests[i].score_prompt) continue;
    const std::vector<int64_t>& ids = requests[i].prompt;
    const std::vector<TokenScore>& scores = all[i]->answer.prompt_scores;
    const torch::Tensor log_p =
        torch::log_softmax(model_.forward(torch::tensor(ids).unsqueeze(0))[0], -1);
    ASSERT_EQ(scores.size() + 1, ids.size()) << i;
    for (size_t t = 0; t < scores.size(); ++t) {
      const auto row = log_p[static_cast<int64_t>(t)];
      EXPECT_NEAR(scores[t].log_p, row[ids[t + 1]].item<float>(), 1e-4) << i << " " << t;
    }
  }
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.completed, 40);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.first_tokens, 40);
}

TEST_F(SchedulerTest, ScoresAreLogProbabilitiesOfTheWholeSequence) {
  Scheduler scheduler(model_, options());
  const Request request{
      .prompt = prompt(50, 1), .max_new_tokens = 5, .top_scores = 3, .score_prompt = true};
  const Answer answer = ask(scheduler, request);
  std::vector<int64_t> ids = request.prompt;
  ids.insert(ids.end(), answer.ids.begin(), answer.ids.end());
  const torch::Tensor log_p =
      torch::log_softmax(model_.forward(torch::tensor(ids).unsqueeze(0))[0], -1);
  std::vector<TokenScore> scores = answer.prompt_scores;
  scores.insert(scores.end(), answer.scores.begin(), answer.scores.end());
  ASSERT_EQ(scores.size(), ids.size() - 1);
  for (size_t i = 0; i < scores.size(); ++i) {
    const torch::Tensor row = log_p[static_cast<int64_t>(i)];
    EXPECT_NEAR(scores[i].log_p, row[ids[i + 1]].item<float>(), 1e-4) << i;
    ASSERT_EQ(scores[i].likeliest.size(), 3);
    EXPECT_NEAR(scores[i].likeliest[0].log_p, row.max().item<float>(), 1e-4) << i;
  }
  for (const TokenScore& score : answer.scores) {  // greedy
    EXPECT_EQ(score.log_p, score.likeliest[0].log_p);
  }
}

TEST_F(SchedulerTest, ACommonPrefixIsNotReadAgainAndChangesNothing) {
  Scheduler scheduler(model_, options(2));
  Request request{.prompt = prompt(60, 1), .max_new_tokens = 8};
  EXPECT_EQ(ask(scheduler, request).outcome.reused_tokens, 0);
  const Answer again = ask(scheduler, request);
  EXPECT_EQ(again.outcome.reused_tokens, 59);
  EXPECT_EQ(again.ids, alone(request));

  // Another end: the other slot is free too, but this one has the longer prefix.
  request.prompt.resize(40);
  request.prompt.push_back(3);
  const Answer other = ask(scheduler, request);
  EXPECT_GE(other.outcome.reused_tokens, 40);
  EXPECT_EQ(other.ids, alone(request));

  // The turn after next of a conversation goes on behind the answer.
  request.prompt.insert(request.prompt.end(), other.ids.begin(), other.ids.end());
  request.prompt.push_back(9);
  const Answer next = ask(scheduler, request);
  EXPECT_EQ(next.outcome.reused_tokens, request.prompt.size() - 2);  // the last drawn is not held
  EXPECT_EQ(next.ids, alone(request));
}

TEST_F(SchedulerTest, APrefixIsLentToOtherSlotsAndKeptWhileOthersAreEmpty) {
  Scheduler scheduler(model_, options(3));
  Request first{.prompt = prompt(60, 1), .max_new_tokens = 4};
  ask(scheduler, first);
  // Two tokens alike are no reason to give up the other 58 while slots are empty.
  Request unrelated{.prompt = prompt(50, 2), .max_new_tokens = 4};
  std::copy_n(first.prompt.begin(), 2, unrelated.prompt.begin());
  EXPECT_EQ(ask(scheduler, unrelated).ids, alone(unrelated));
  EXPECT_EQ(ask(scheduler, first).outcome.reused_tokens, 59);

  // A row that still grows lends what it has read.
  auto grows = std::make_shared<Collected>();
  Request running{.prompt = prompt(60, 3), .max_new_tokens = 60};
  auto beside = std::make_shared<Collected>();
  Request next = running;
  next.prompt.push_back(7);
  next.max_new_tokens = 8;
  bool asked = false;
  grows->at_token = [&] {
    if (!asked) scheduler.submit({collecting(next, beside)});
    asked = true;
  };
  scheduler.submit({collecting(running, grows)});
  beside->ended.get_future().wait();
  grows->ended.get_future().wait();
  EXPECT_EQ(beside->answer.outcome.reused_tokens, 60);
  EXPECT_EQ(beside->answer.ids, alone(next));
  EXPECT_EQ(grows->answer.ids, alone(running));
}

// Refuses what is larger than `limit`, and remembers the largest that was asked for.
class LimitedAllocator : public c10::Allocator {
 public:
  explicit LimitedAllocator(c10::Allocator* other) : other_(other) {}
  c10::DataPtr allocate(size_t bytes) override {
    TORCH_CHECK(bytes <= limit, "not enough memory for ", bytes, " bytes");
    largest = std::max(largest.load(), bytes);
    return other_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return other_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    other_->copy_data(to, from, bytes);
  }

  std::atomic<size_t> limit{std::numeric_limits<size_t>::max()}, largest{0};

 private:
  c10::Allocator* other_;
};

TEST_F(SchedulerTest, WantOfMemoryEndsOneAnswerAndTheOthersGoOn) {
  SchedulerOptions o = options();
  o.prefill_tokens = 120;
  c10::Allocator* const usual = c10::GetCPUAllocator();
  LimitedAllocator limited(usual);
  Request small{.prompt = prompt(5, 1), .max_new_tokens = 20};
  Request large{.prompt = prompt(100, 2), .max_new_tokens = 5};
  const std::vector<int64_t> expected = alone(small), expected_large = alone(large);
  {
    Scheduler scheduler(model_, o);
    c10::SetCPUAllocator(&limited, /*priority=*/100);
    ask(scheduler, small);
    limited.limit = limited.largest * 2;
    // Both in one step, and the large one beside an answer that grows.
    for (const bool together : {true, false}) {
      auto first = std::make_shared<Collected>(), second = std::make_shared<Collected>();
      if (together) {
        scheduler.submit({collecting(small, first), collecting(large, second)});
      } else {
        scheduler.submit({collecting(small, first)});
        scheduler.submit({collecting(large, second)});
      }
      first->ended.get_future().wait();
      second->ended.get_future().wait();
      EXPECT_EQ(first->answer.outcome.ending, Ending::kLength) << first->answer.outcome.error;
      EXPECT_EQ(first->answer.ids, expected);
      EXPECT_EQ(second->answer.outcome.ending, Ending::kFailed);
      EXPECT_NE(second->answer.outcome.error.find("not enough memory"), std::string::npos);
    }
    limited.limit = std::numeric_limits<size_t>::max();
    EXPECT_EQ(ask(scheduler, large).ids, expected_large);
    c10::SetCPUAllocator(usual, /*priority=*/100);
  }
}

// Refuses what would make more than `limit` bytes live at once, and remembers the most there were.
class BoundedAllocator : public c10::Allocator {
 public:
  explicit BoundedAllocator(c10::Allocator* other) : other_(other) {}
  c10::DataPtr allocate(size_t bytes) override {
    const size_t now = live_->fetch_add(bytes) + bytes;
    if (now > limit) {
      *live_ -= bytes;
      TORCH_CHECK(false, "not enough memory for ", bytes, " bytes");
    }
    most = std::max(most.load(), now);
    auto* piece = new Piece{other_->allocate(bytes), live_, bytes};
    return {piece->data.get(), piece, &release, piece->data.device()};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    other_->copy_data(to, from, bytes);
  }
  size_t live() const { return *live_; }

  std::atomic<size_t> limit{std::numeric_limits<size_t>::max()}, most{0};

 private:
  struct Piece {
    c10::DataPtr data;
    std::shared_ptr<std::atomic<size_t>> live;  // it may outlive the allocator
    size_t bytes;
  };
  static void release(void* context) {
    auto* piece = static_cast<Piece*>(context);
    *piece->live -= piece->bytes;
    delete piece;
  }

  c10::Allocator* other_;
  std::shared_ptr<std::atomic<size_t>> live_ = std::make_shared<std::atomic<size_t>>(0);
};

TEST_F(SchedulerTest, AnAnswerAloneIsTriedAgainInTheRoomOfIdleRows) {
  SchedulerOptions o = options();
  o.prefill_tokens = 120;
  const Request first{.prompt = prompt(100, 1), .max_new_tokens = 3};
  const Request second{.prompt = prompt(100, 2), .max_new_tokens = 3};
  const std::vector<int64_t> expected = alone(second);
  c10::Allocator* const usual = c10::GetCPUAllocator();
  BoundedAllocator bounded(usual);
  {
    Scheduler scheduler(model_, o);
    c10::SetCPUAllocator(&bounded, /*priority=*/100);
    const size_t before = bounded.live();
    ask(scheduler, first);
    const size_t needed = bounded.most - before;  // by an answer to a prompt of that length
    const auto idle = static_cast<size_t>(scheduler.stats().cache_bytes);
    ASSERT_GT(idle, 0);
    // Room for one answer, and for half of what the first has left in its slot.
    bounded.limit = before + needed + idle / 2;
    const Answer answer = ask(scheduler, second);
    EXPECT_EQ(answer.outcome.ending, Ending::kLength) << answer.outcome.error;
    EXPECT_EQ(answer.ids, expected);
    EXPECT_EQ(ask(scheduler, first).outcome.reused_tokens, 0);  // its prefix is gone

    // Without anything to give up the answer ends.
    bounded.limit = before + needed / 2;
    EXPECT_EQ(ask(scheduler, second).outcome.ending, Ending::kFailed);
    c10::SetCPUAllocator(usual, /*priority=*/100);
  }
}

TEST_F(SchedulerTest, ASlotClaimsNothingOfARowThatItDidNotGet) {
  model::KvCache cache = model_.make_cache(2, 16);
  cache.make_room({3, 3});
  for (const int64_t row : {0, 1}) cache.advance(row, 3);
  std::vector<Slot> slots(2);
  slots[0].held = {1, 2, 3};
  slots[1].held = {4, 5, 6};
  const auto begin = [&](int64_t reused) {
    start(slots, {.slot = 1, .source = 0, .reused = reused}, {.request = {.prompt = {1, 2, 7}}},
          cache);
  };
  EXPECT_THROW(begin(4), c10::ValueError);  // more than the row has
  EXPECT_TRUE(slots[1].held.empty());
  begin(2);
  EXPECT_EQ(slots[1].held, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(cache.lengths(), (std::vector<int64_t>{3, 2}));
}

TEST_F(SchedulerTest, AStepIsCountedBeforeItsTokenIsHeard) {
  Scheduler scheduler(model_, options());
  auto collected = std::make_shared<Collected>();
  std::vector<SchedulerStats> heard;
  collected->at_token = [&] { heard.push_back(scheduler.stats()); };
  scheduler.submit({collecting({.prompt = prompt(10, 1), .max_new_tokens = 3}, collected)});
  collected->ended.get_future().wait();
  ASSERT_EQ(heard.size(), 3);
  for (size_t i = 0; i < heard.size(); ++i) {
    EXPECT_EQ(heard[i].prefill_steps, 1) << i;
    EXPECT_EQ(heard[i].decode_steps, i);
    EXPECT_EQ(heard[i].generated_tokens, i + 1);
    EXPECT_GT(heard[i].cache_bytes, 0);
    EXPECT_GT(heard[i].prefill_seconds, 0);
  }
}

TEST_F(SchedulerTest, ScoredPromptsReuseScores) {
  Scheduler scheduler(model_, options(1));
  Request request{
      .prompt = prompt(50, 1), .max_new_tokens = 1, .top_scores = 2, .score_prompt = true};
  const auto fresh = [&](const Request& r) {
    Scheduler another(model_, options(1));
    return ask(another, r);
  };
  const auto expect_equal = [&](const Answer& a, const Answer& b) {
    ASSERT_EQ(a.prompt_scores.size(), b.prompt_scores.size());
    for (size_t i = 0; i < a.prompt_scores.size(); ++i) {
      EXPECT_NEAR(a.prompt_scores[i].log_p, b.prompt_scores[i].log_p, 1e-4) << i;
      EXPECT_EQ(a.prompt_scores[i].likeliest[0].id, b.prompt_scores[i].likeliest[0].id) << i;
    }
    EXPECT_EQ(a.ids, b.ids);
  };
  ask(scheduler, request);
  // The same beginning, three ends, as the choices of a question have, of several lengths.
  for (const auto& [keep, length] : {std::pair{45, 60}, {44, 50}, {44, 45}, {50, 50}, {20, 24}}) {
    Request choice = request;
    choice.prompt.resize(keep);
    const std::vector<int64_t> rest = prompt(length - keep, 77 + length);
    choice.prompt.insert(choice.prompt.end(), rest.begin(), rest.end());
    const Answer answer = ask(scheduler, choice);
    EXPECT_GE(answer.outcome.reused_tokens, 19) << keep;
    expect_equal(answer, fresh(choice));
  }
  // A prompt without scores leaves none for what it read.
  Request plain{.prompt = prompt(30, 5), .max_new_tokens = 1};
  ask(scheduler, plain);
  request.prompt = plain.prompt;
  request.prompt.push_back(4);
  const Answer answer = ask(scheduler, request);
  EXPECT_EQ(answer.outcome.reused_tokens, 0);
  expect_equal(answer, fresh(request));
}

TEST_F(SchedulerTest, EndsAtEndOfTextAtStopsAndAtTheContext) {
  const Request request{.prompt = prompt(20, 1), .max_new_tokens = 12, .top_scores = 0};
  const std::vector<int64_t> ids = alone(request);
  SchedulerOptions with_eos = options();
  with_eos.eos_ids = {ids[4]};
  Scheduler scheduler(model_, with_eos);
  const size_t first = std::ranges::find(ids, ids[4]) - ids.begin();
  const Answer answer = ask(scheduler, request);
  EXPECT_EQ(answer.outcome.ending, Ending::kEos);
  EXPECT_EQ(answer.ids.size(), first + 1);
  EXPECT_EQ(answer.scores.size(), first + 1);

  Request on = request;
  on.ignore_eos = true;
  EXPECT_EQ(ask(scheduler, on).ids, ids);

  Scheduler plain(model_, options());
  auto stopped = std::make_shared<Collected>();
  stopped->stop_after = 3;
  plain.submit({collecting(request, stopped)});
  stopped->ended.get_future().wait();
  EXPECT_EQ(stopped->answer.outcome.ending, Ending::kStopped);
  EXPECT_EQ(stopped->answer.ids.size(), 3);

  // A prompt that fills the context has room for the one token that is not read again.
  Request full{.prompt = prompt(128, 1), .max_new_tokens = 50};
  EXPECT_EQ(ask(plain, full).ids.size(), 1);
  full.prompt.resize(120);
  const Answer longest = ask(plain, full);
  EXPECT_EQ(longest.ids.size(), 9);
  EXPECT_EQ(longest.outcome.ending, Ending::kLength);

  Request none{.prompt = prompt(9, 1), .max_new_tokens = 0};
  EXPECT_TRUE(ask(plain, none).ids.empty());
  none.top_scores = 1;
  none.score_prompt = true;
  EXPECT_EQ(ask(plain, none).prompt_scores.size(), 8);
}

TEST_F(SchedulerTest, NeverDrawsWhatStandsForNothing) {
  const Request request{.prompt = prompt(20, 1), .max_new_tokens = 1};
  SchedulerOptions without = options();
  without.never_drawn = {alone(request)[0]};
  Scheduler scheduler(model_, without);
  EXPECT_NE(ask(scheduler, request).ids, alone(request));
}

TEST_F(SchedulerTest, CancellingFreesTheSlotForTheNext) {
  Scheduler scheduler(model_, options(1));
  // The listener holds the scheduler's thread until the cancellation is there.
  auto first = std::make_shared<Collected>();
  std::promise<void> cancelled;
  std::shared_future<void> wait = cancelled.get_future().share();
  first->at_token = [wait] { wait.wait(); };
  const Request request{.prompt = prompt(10, 1), .max_new_tokens = 100};
  const uint64_t id = scheduler.submit({collecting(request, first)}).at(0);
  first->began.get_future().wait();
  auto second = std::make_shared<Collected>();
  auto third = std::make_shared<Collected>();
  const uint64_t waits = scheduler.submit({collecting(request, second)}).at(0);
  scheduler.submit({collecting({.prompt = prompt(5, 2), .max_new_tokens = 3}, third)});
  EXPECT_EQ(scheduler.stats().waiting, 2);
  scheduler.cancel(id);
  scheduler.cancel(waits);
  scheduler.cancel(9999);
  cancelled.set_value();
  third->ended.get_future().wait();
  EXPECT_EQ(first->answer.outcome.ending, Ending::kCancelled);
  EXPECT_LE(first->answer.ids.size(), 2);  // a step later at most
  EXPECT_EQ(second->answer.outcome.ending, Ending::kCancelled);
  EXPECT_TRUE(second->answer.ids.empty());
  EXPECT_EQ(third->answer.ids.size(), 3);
  EXPECT_TRUE(scheduler.wait_idle(10s));
  EXPECT_EQ(scheduler.stats().cancelled, 2);
}

TEST_F(SchedulerTest, ALongPromptDoesNotStopTheOthers) {
  SchedulerOptions small = options(2);
  small.prefill_tokens = 4;
  Scheduler scheduler(model_, small);
  auto first = std::make_shared<Collected>();
  auto second = std::make_shared<Collected>();
  std::atomic<int64_t> drawn{0}, at_first_token{0};
  first->at_token = [&] { ++drawn; };
  second->at_token = [&] { at_first_token = drawn.load(); };
  scheduler.submit({collecting({.prompt = prompt(3, 1), .max_new_tokens = 60}, first),
                    collecting({.prompt = prompt(100, 2), .max_new_tokens = 1}, second)});
  first->ended.get_future().wait();
  second->ended.get_future().wait();
  EXPECT_GE(at_first_token.load(), 20);  // 25 pieces, a step of decoding after each
}

TEST_F(SchedulerTest, RefusesMoreThanMayWaitAndAllAfterItsClose) {
  SchedulerOptions narrow = options(1);
  narrow.max_waiting = 2;
  Scheduler scheduler(model_, narrow);
  auto first = std::make_shared<Collected>();
  std::promise<void> release;
  std::shared_future<void> wait = release.get_future().share();
  first->at_token = [wait] { wait.wait(); };
  const Request request{.prompt = prompt(10, 1), .max_new_tokens = 2};
  scheduler.submit({collecting(request, first)});
  first->began.get_future().wait();
  const auto collected = [] { return std::make_shared<Collected>(); };
  try {
    scheduler.submit({collecting(request, collected()), collecting(request, collected()),
                      collecting(request, collected())});
    ADD_FAILURE() << "taken";
  } catch (const Refused& e) {
    EXPECT_EQ(e.reason(), Refused::Reason::kFull);
  }
  auto last = collected();
  scheduler.submit({collecting(request, last)});
  scheduler.close();
  try {
    scheduler.submit({collecting(request, collected())});
    ADD_FAILURE() << "taken";
  } catch (const Refused& e) {
    EXPECT_EQ(e.reason(), Refused::Reason::kClosed);
  }
  EXPECT_FALSE(scheduler.wait_idle(1ms));
  release.set_value();
  EXPECT_TRUE(scheduler.wait_idle(10s));
  EXPECT_EQ(last->answer.ids.size(), 2);  // running answers end
  EXPECT_EQ(scheduler.stats().refused, 4);
}

TEST_F(SchedulerTest, RefusesRequestsOutOfRange) {
  Scheduler scheduler(model_, options());
  const auto refuses = [&](Request request) {
    EXPECT_THROW(scheduler.submit({{std::move(request), {}}}), c10::ValueError);
  };
  refuses({.prompt = {}});
  refuses({.prompt = {-1}});
  refuses({.prompt = {264}});
  refuses({.prompt = prompt(129, 1)});
  refuses({.prompt = {1}, .max_new_tokens = -1});
  refuses({.prompt = {1}, .sampling = {.temperature = -1.0}});
  refuses({.prompt = {1}, .sampling = {.temperature = std::nan("")}});
  refuses({.prompt = {1}, .top_scores = -1});
  refuses({.prompt = {1}, .score_prompt = true});
  EXPECT_THROW(Scheduler(model_, {.slots = 0, .context = 8}), c10::ValueError);
  EXPECT_THROW(Scheduler(model_, {.context = 4096}), c10::ValueError);
}

TEST_F(SchedulerTest, WhatAListenerThrowsEndsItsAnswerAlone) {
  Scheduler scheduler(model_, options());
  auto broken = std::make_shared<Collected>();
  auto whole = std::make_shared<Collected>();
  broken->at_token = [] { throw std::runtime_error("no more"); };
  const Request request{.prompt = prompt(10, 1), .max_new_tokens = 6};
  scheduler.submit({collecting(request, broken), collecting(request, whole)});
  broken->ended.get_future().wait();
  whole->ended.get_future().wait();
  EXPECT_EQ(broken->answer.outcome.ending, Ending::kFailed);
  EXPECT_EQ(broken->answer.outcome.error, "no more");
  EXPECT_EQ(whole->answer.ids, alone(request));
  EXPECT_EQ(scheduler.stats().failed, 1);
}

TEST_F(SchedulerTest, LogitsThatAreNoNumbersFailWithAMessage) {
  for (const model::NamedTensor& parameter : model_.parameters()) {
    if (parameter.name == "model.norm.weight") parameter.tensor.fill_(std::nan(""));
  }
  Scheduler scheduler(model_, options());
  EXPECT_EQ(ask(scheduler, {.prompt = {1, 2}}).outcome.ending, Ending::kFailed);
  const Answer scored =
      ask(scheduler, {.prompt = {1, 2, 3}, .top_scores = 1, .score_prompt = true});
  EXPECT_EQ(scored.outcome.ending, Ending::kFailed);
  EXPECT_NE(scored.outcome.error.find("NaN"), std::string::npos);
}

TEST_F(SchedulerTest, ItsEndCancelsWhatRunsAndWaits) {
  std::vector<std::shared_ptr<Collected>> all;
  {
    Scheduler scheduler(model_, options(1));
    for (int i = 0; i < 5; ++i) {
      all.push_back(std::make_shared<Collected>());
      scheduler.submit({collecting({.prompt = prompt(20, i), .max_new_tokens = 100}, all.back())});
    }
    all[0]->began.get_future().wait();
  }
  for (const auto& one : all) one->ended.get_future().wait();
  EXPECT_EQ(all.back()->answer.outcome.ending, Ending::kCancelled);
}

// Threads that ask, cancel and read the figures at once: ThreadSanitizer sees no race.
TEST_F(SchedulerTest, ManyThreadsAtOnce) {
  Scheduler scheduler(model_, options(3));
  std::vector<std::jthread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 6; ++i) {
        const Request request{.prompt = prompt(2 + 5 * i, t),
                              .max_new_tokens = 4,
                              .sampling = {.temperature = 0.7, .seed = static_cast<uint64_t>(t)}};
        auto collected = std::make_shared<Collected>();
        const uint64_t id = scheduler.submit({collecting(request, collected)}).at(0);
        if ((t + i) % 4 == 0) scheduler.cancel(id);
        collected->ended.get_future().wait();
        const std::vector<int64_t>& ids = collected->answer.ids;
        if (scheduler.stats().slots != 3 || ids.size() > 4) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(scheduler.wait_idle(10s));
}

}  // namespace
}  // namespace schmidt::infer
