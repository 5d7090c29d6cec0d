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

Server::Server(std::vector<LoadedModel> models, const ServeOptions& options)
    : http_(options.http), models_(std::make_unique<HostedModels>()) {
  TORCH_CHECK_VALUE(!models.empty(), "[serve] expected a model or more, got none");
  for (auto& [model, served] : models) {
    const model::ModelConfig& config = model.config();
    infer::SchedulerOptions of_scheduler = scheduler_options(config, served.tokenizer, options);
    served.model_type = config.model_type;
    served.vocab_size = config.vocab_size;
    served.context = of_scheduler.context;
    served.longest_token = longest_token(served.tokenizer);
    served.created = std::chrono::duration_cast<std::chrono::seconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    models_->add(std::move(served), std::move(model), std::move(of_scheduler));
  }
  api_ = std::make_unique<Api>(*models_, options.api);
  http_.start([this](const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
    api_->handle(request, reply);
  });
}

Server::~Server() {
  models_->close();
  models_->cancel_all();
  http_.stop(0ms);
  models_.reset();  // their last words go to what is still there
}

bool Server::drain(std::chrono::milliseconds at_most) {
  models_->close();
  const bool whole = models_->wait_idle(at_most);
  if (!whole) {
    models_->cancel_all();
    models_->wait_idle(kLastAnswers);
  }
  http_.stop(kLastAnswers);
  return whole;
}

}  // namespace schmidt::serve
