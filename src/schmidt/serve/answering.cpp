#include "schmidt/serve/answering.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <iterator>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "schmidt/io/json.h"
#include "schmidt/serve/api_error.h"

namespace schmidt::serve {
namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string event(const OrderedJson& value) { return "data: " + io::json_text(value) + "\n\n"; }

// The answers to one request. After its start the scheduler's thread collects them, and what it
// hands to the reply's run() is rendered there: `heads_` and `wholes_` are touched there alone.
// Only `unwritten_` is of both.
class Answers : public std::enable_shared_from_this<Answers> {
 public:
  Answers(const ServedModel& model, const AnswerFormat& format, Question question,
          std::shared_ptr<Reply> reply)
      : model_(model),
        format_(format),
        question_(std::move(question)),
        options_(question_.options),
        reply_(std::move(reply)),
        id_(format.id_prefix +
            fmt::format("{:016x}", std::random_device{}() * 0x9E3779B97F4A7C15U)),
        created_(now()) {
    for (const EncodedPrompt& prompt : question_.prompts) {
      for (int64_t i = 0; i < options_.n; ++i) {
        choices_.emplace_back(model.tokenizer, options_.stop, static_cast<int64_t>(choices_.size()),
                              prompt.echo, prompt.continues);
      }
    }
    left_ = choices_.size();
    started_.resize(choices_.size());
    heads_.resize(choices_.size());
    wholes_.resize(choices_.size());
  }

  std::vector<infer::Scheduler::Submission> submissions() {
    std::vector<infer::Scheduler::Submission> all;
    for (size_t i = 0; i < choices_.size(); ++i) {
      infer::Request request;
      request.prompt = prompt_of(i).ids;
      request.max_new_tokens = question_.max_tokens;
      request.sampling = options_.sampling;
      request.sampling.seed = question_.seed;
      // With a seed an answer does not depend on the prompts beside its own.
      request.stream = options_.seed ? i % options_.n : i;
      request.ignore_eos = options_.ignore_eos;
      request.top_scores = options_.logprobs;
      request.score_prompt = question_.echo && options_.logprobs.has_value();
      infer::Listener listener = listener_of(i, request.score_prompt);
      all.push_back({std::move(request), std::move(listener)});
    }
    return all;
  }

 private:
  const EncodedPrompt& prompt_of(size_t i) const { return question_.prompts[i / options_.n]; }

  infer::Listener listener_of(size_t i, bool scores_prompt) {
    infer::Listener listener;
    const auto self = shared_from_this();
    if (scores_prompt) {
      listener.on_prompt = [self, i](const std::vector<infer::TokenScore>& scores) {
        self->render([self, i, scores] {
          const EncodedPrompt& prompt = self->prompt_of(i);
          self->heads_[i] = logged_prompt(self->model_.tokenizer, prompt.echo, prompt.ids, scores);
        });
      };
    }
    listener.on_token = [self, i](const infer::DrawnToken& token) {
      const bool goes_on = self->choices_[i].push(token);
      if (self->options_.stream && goes_on && self->choices_[i].has_news()) self->send_piece(i);
      return goes_on && !self->unwritten_;
    };
    listener.on_end = [self, i](const infer::Outcome& outcome) { self->end(i, outcome); };
    return listener;
  }

  // What fails in rendering ends the drawing, and the reply as a failure.
  void render(std::function<void()> work) {
    reply_->run([self = shared_from_this(), work = std::move(work)] {
      try {
        work();
      } catch (const std::exception&) {
        self->unwritten_ = true;
      }
    });
  }

  OrderedJson frame(const char* object, OrderedJson choices) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", model_.name},
            {"choices", std::move(choices)}};
  }

  void send_piece(size_t i) {
    const bool first = !started_[i] && format_.opens;
    started_[i] = true;
    render([self = shared_from_this(), i, first, piece = choices_[i].take()]() mutable {
      if (self->unwritten_) return;
      const AnswerFormat& format = self->format_;
      OrderedJson chunk = self->frame(
          format.chunk_object,
          OrderedJson::array({format.chunk(self->model_, self->with_head(i, std::move(piece)),
                                           self->options_.logprobs.has_value(), first)}));
      if (self->options_.include_usage) chunk["usage"] = nullptr;
      self->reply_->stream(event(chunk));
    });
  }

  // The tokens of the prompt come before the answer's.
  Piece with_head(size_t i, Piece piece) {
    std::vector<LoggedToken> head = std::exchange(heads_[i], {});
    piece.tokens.insert(piece.tokens.begin(), std::make_move_iterator(head.begin()),
                        std::make_move_iterator(head.end()));
    return piece;
  }

  /// Whatever becomes of one answer, the last to end completes the reply.
  void end(size_t i, const infer::Outcome& outcome) {
    try {
      choices_[i].end(outcome);
      if (outcome.ending == infer::Ending::kFailed && failure_.empty()) failure_ = outcome.error;
      cancelled_ = cancelled_ || outcome.ending == infer::Ending::kCancelled;
      const bool whole =
          outcome.ending != infer::Ending::kFailed && outcome.ending != infer::Ending::kCancelled;
      if (whole) options_.stream ? send_piece(i) : keep(i);
    } catch (const std::exception& e) {
      if (failure_.empty()) failure_ = e.what();
    }
    if (--left_ > 0) return;
    reply_->run([self = shared_from_this()] {
      try {
        self->complete();
      } catch (const std::exception&) {
        self->fail_writing();
      }
    });
  }

  void keep(size_t i) {
    render([self = shared_from_this(), i, piece = choices_[i].take()]() mutable {
      self->wholes_[i] = self->format_.choice(self->model_, self->with_head(i, std::move(piece)),
                                              self->options_.logprobs.has_value());
    });
  }

  void fail_writing() {
    fail(500, "the answer could not be written", "server_error", "internal_error");
  }

  // All answers have ended: nothing of this changes any more.
  void complete() {
    if (unwritten_) {
      fail_writing();
    } else if (!failure_.empty()) {
      fail(500, "the model failed: " + failure_, "server_error", "internal_error");
    } else if (cancelled_) {
      fail(503, "the server ends", "server_error", "shutting_down");
    } else if (options_.stream) {
      end_stream();
    } else {
      send_whole();
    }
  }

  void fail(int status, const std::string& message, const char* type, const char* code) {
    const std::string body = error_body(message, type, code);
    if (!options_.stream) return reply_->send({status, body});
    reply_->stream("data: " + body + "\n\n");
    reply_->end_stream();
  }

  OrderedJson usage() const {
    Usage usage;
    for (const Choice& choice : choices_) {
      const infer::Outcome& outcome = choice.outcome();
      usage.completion_tokens += outcome.generated_tokens;
      if (choice.index() % options_.n != 0) continue;  // a prompt counts once
      usage.prompt_tokens += outcome.prompt_tokens;
      usage.cached_tokens += outcome.reused_tokens;
    }
    return to_json(usage);
  }

  void end_stream() {
    if (options_.include_usage) {
      OrderedJson last = frame(format_.chunk_object, OrderedJson::array());
      last["usage"] = usage();
      reply_->stream(event(last));
    }
    reply_->stream("data: [DONE]\n\n");
    reply_->end_stream();
  }

  void send_whole() {
    OrderedJson choices = OrderedJson::array();
    for (OrderedJson& choice : wholes_) choices.push_back(std::move(choice));
    OrderedJson whole = frame(format_.object, std::move(choices));
    whole["usage"] = usage();
    reply_->send({200, io::json_text(whole)});
  }

  const ServedModel& model_;
  const AnswerFormat& format_;
  const Question question_;
  const AnswerOptions& options_;  // of question_
  const std::shared_ptr<Reply> reply_;
  const std::string id_;
  const int64_t created_;
  std::vector<Choice> choices_;
  std::vector<bool> started_;                    // of each choice: a chunk was sent
  std::vector<std::vector<LoggedToken>> heads_;  // of each choice: its prompt's tokens
  std::vector<OrderedJson> wholes_;              // of each choice: it rendered whole
  std::atomic<bool> unwritten_{false};           // rendering failed
  size_t left_ = 0;
  std::string failure_;
  bool cancelled_ = false;
};

}  // namespace

void answer(const ServedModel& model, infer::Scheduler& scheduler, const AnswerFormat& format,
            Question question, const std::shared_ptr<Reply>& reply) {
  // Before anything is made of them.
  const auto asked = static_cast<int64_t>(question.prompts.size()) * question.options.n;
  if (asked > scheduler.options().max_waiting) {
    throw invalid_request(
        fmt::format("prompt, n: expected at most {} answers to one request, got {}",
                    scheduler.options().max_waiting, asked));
  }
  const auto answers = std::make_shared<Answers>(model, format, std::move(question), reply);
  const std::vector<uint64_t> ids = scheduler.submit(answers->submissions());
  reply->on_leave([&scheduler, ids] {
    for (const uint64_t id : ids) scheduler.cancel(id);
  });
}

}  // namespace schmidt::serve
