#pragma once

#include <chrono>
#include <deque>
#include <string_view>

#include "schmidt/infer/scheduler.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

/// A model and the scheduler that draws its answers.
struct HostedModel {
  HostedModel(ServedModel served_model, model::Model model, infer::SchedulerOptions options)
      : served(std::move(served_model)), scheduler(std::move(model), std::move(options)) {}

  const ServedModel served;
  infer::Scheduler scheduler;  // last: its answers refer to what is served
};

/// The models of one server, side by side: each has slots, a queue and a thread of its own.
class HostedModels {
 public:
  /// Starts to answer for a model; its address stays. Throws c10::ValueError where its name is
  /// taken, and as Scheduler does. Not safe beside other calls.
  HostedModel& add(ServedModel served, model::Model model, infer::SchedulerOptions options);

  /// The model of that name or, where none has it, of that alias; the first for an empty name.
  /// Throws ApiError of status 404.
  HostedModel& choose(std::string_view name);

  /// In the order in which they were added; one or more.
  const std::deque<HostedModel>& all() const { return models_; }

  // What Scheduler does, of all.
  void close();
  void cancel_all();
  bool wait_idle(std::chrono::milliseconds at_most);

 private:
  std::deque<HostedModel> models_;
};

}  // namespace schmidt::serve
