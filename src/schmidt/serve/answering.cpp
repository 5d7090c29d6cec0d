#include "schmidt/serve/answering.h"

#include <chrono>
#include <random>

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

// The answers to one request. After its start the scheduler's thread alone touches it.
class Answers : public std::enable_shared_from_this<Answers> {
 public:
  Answers(const ServedModel& model, const AnswerFormat& format, const Question& question,
          std::shared_ptr<Reply> reply)
      : model_(model),
        format_(format),
        options_(question.options),
        reply_(std::move(reply)),
        id_(format.id_prefix +
            fmt::format("{:016x}", std::random_device{}() * 0x9E3779B97F4A7C15U)),
        created_(now()) {
    for (const EncodedPrompt& prompt : question.prompts) {
      for (int64_t i = 0; i < options_.n; ++i) {
        choices_.emplace_back(model.tokenizer, options_.stop, static_cast<int64_t>(choices_.size()),
                              prompt.echo);
      }
    }
    left_ = choices_.size();
    started_.resize(choices_.size());
  }

  std::vector<infer::Scheduler::Submission> submissions(const Question& question) {
    std::vector<infer::Scheduler::Submission> all;
    for (size_t i = 0; i < choices_.size(); ++i) {
      infer::Request request;
      request.prompt = question.prompts[i / options_.n].ids;
      request.max_new_tokens = question.max_tokens;
      request.sampling = options_.sampling;
      request.sampling.seed = question.seed;
      // With a seed an answer does not depend on the prompts beside its own.
      request.stream = options_.seed ? i % options_.n : i;
      request.ignore_eos = options_.ignore_eos;
      request.top_scores = options_.logprobs;
      request.score_prompt = question.echo && options_.logprobs.has_value();
      const bool scores = request.score_prompt;
      all.push_back(
          {std::move(request), listener(i, question.prompts[i / options_.n].ids, scores)});
    }
    return all;
  }

 private:
  infer::Listener listener(size_t i, const std::vector<int64_t>& prompt, bool scores_prompt) {
    infer::Listener listener;
    const auto self = shared_from_this();
    if (scores_prompt) {
      listener.on_prompt = [self, i, prompt](const std::vector<infer::TokenScore>& scores) {
        self->choices_[i].log_prompt(prompt, scores);
      };
    }
    listener.on_token = [self, i](const infer::DrawnToken& token) {
      const bool goes_on = self->choices_[i].push(token);
      if (self->options_.stream && goes_on && self->choices_[i].has_news()) self->send_piece(i);
      return goes_on;
    };
    listener.on_end = [self, i](const infer::Outcome& outcome) { self->end(i, outcome); };
    return listener;
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
    OrderedJson chunk =
        frame(format_.chunk_object,
              OrderedJson::array({format_.chunk(model_, choices_[i], choices_[i].take(),
                                                options_.logprobs.has_value(), first)}));
    if (options_.include_usage) chunk["usage"] = nullptr;
    reply_->stream(event(chunk));
  }

  /// Whatever becomes of one answer, the last to end completes the reply.
  void end(size_t i, const infer::Outcome& outcome) {
    try {
      choices_[i].end(outcome);
      if (outcome.ending == infer::Ending::kFailed && failure_.empty()) failure_ = outcome.error;
      cancelled_ = cancelled_ || outcome.ending == infer::Ending::kCancelled;
      const bool whole =
          outcome.ending != infer::Ending::kFailed && outcome.ending != infer::Ending::kCancelled;
      if (options_.stream && whole) send_piece(i);
    } catch (const std::exception& e) {
      if (failure_.empty()) failure_ = e.what();
    }
    if (--left_ > 0) return;
    try {
      complete();
    } catch (const std::exception&) {
      fail(500, "the answer could not be written", "server_error", "internal_error");
    }
  }

  void complete() {
    if (!failure_.empty()) {
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
    for (Choice& choice : choices_) {
      choices.push_back(
          format_.choice(model_, choice, choice.take(), options_.logprobs.has_value()));
    }
    OrderedJson whole = frame(format_.object, std::move(choices));
    whole["usage"] = usage();
    reply_->send({200, io::json_text(whole)});
  }

  const ServedModel& model_;
  const AnswerFormat& format_;
  const AnswerOptions options_;
  const std::shared_ptr<Reply> reply_;
  const std::string id_;
  const int64_t created_;
  std::vector<Choice> choices_;
  std::vector<bool> started_;  // of each choice: a chunk was sent
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
  const auto answers = std::make_shared<Answers>(model, format, question, reply);
  const std::vector<uint64_t> ids = scheduler.submit(answers->submissions(question));
  reply->on_leave([&scheduler, ids] {
    for (const uint64_t id : ids) scheduler.cancel(id);
  });
}

}  // namespace schmidt::serve
