#include "schmidt/serve/server.h"

#include <algorithm>

namespace schmidt::serve {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kUsualContext = 4096;
constexpr auto kLastAnswers = 5'000ms;  // to send what is answered already

infer::SchedulerOptions scheduler_options(const model::ModelConfig& config,
                                          const text::Tokenizer& tokenizer,
                                          const ServeOptions& options) {
  infer::SchedulerOptions scheduler;
  scheduler.slots = options.slots;
  scheduler.context =
      options.context > 0 ? options.context : std::min(config.max_positions, kUsualContext);
  scheduler.max_waiting = options.max_waiting;
  scheduler.prefill_tokens = options.prefill_tokens;
  scheduler.eos_ids = config.eos_ids;
  for (const int64_t id : tokenizer.stop_ids()) scheduler.eos_ids.push_back(id);
  for (const int64_t id : tokenizer.ids_without_token(config.vocab_size)) {
    // An end without a token ends the answer all the same.
    if (std::ranges::find(scheduler.eos_ids, id) == scheduler.eos_ids.end()) {
      scheduler.never_drawn.push_back(id);
    }
  }
  return scheduler;
}

}  // namespace

Server::Server(model::Model model, ServedModel served, const ServeOptions& options)
    : http_(options.http), served_(std::move(served)) {
  const model::ModelConfig& config = model.config();
  infer::SchedulerOptions of_scheduler = scheduler_options(config, served_.tokenizer, options);
  served_.model_type = config.model_type;
  served_.vocab_size = config.vocab_size;
  served_.context = of_scheduler.context;
  served_.longest_token = longest_token(served_.tokenizer);
  served_.created = std::chrono::duration_cast<std::chrono::seconds>(
                        std::chrono::system_clock::now().time_since_epoch())
                        .count();
  scheduler_ = std::make_unique<infer::Scheduler>(std::move(model), std::move(of_scheduler));
  api_ = std::make_unique<Api>(served_, *scheduler_, options.api);
  http_.start([this](const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
    api_->handle(request, reply);
  });
}

Server::~Server() {
  scheduler_->close();
  scheduler_->cancel_all();
  http_.stop(0ms);
  scheduler_.reset();  // its last words go to what is still there
}

bool Server::drain(std::chrono::milliseconds at_most) {
  scheduler_->close();
  const bool whole = scheduler_->wait_idle(at_most);
  if (!whole) {
    scheduler_->cancel_all();
    scheduler_->wait_idle(kLastAnswers);
  }
  http_.stop(kLastAnswers);
  return whole;
}

}  // namespace schmidt::serve
