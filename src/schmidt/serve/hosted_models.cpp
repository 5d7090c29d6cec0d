#include "schmidt/serve/hosted_models.h"

#include <algorithm>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/serve/api_error.h"

namespace schmidt::serve {

HostedModel& HostedModels::add(ServedModel served, model::Model model,
                               infer::SchedulerOptions options) {
  TORCH_CHECK_VALUE(
      std::ranges::none_of(models_, [&](const auto& m) { return m.served.name == served.name; }),
      "[serve] expected names that differ, got ", served.name, " twice");
  return models_.emplace_back(std::move(served), std::move(model), std::move(options));
}

HostedModel& HostedModels::choose(std::string_view name) {
  if (name.empty()) return models_.front();
  const auto is_called = [&](const HostedModel& m) { return m.served.name == name; };
  const auto has_alias = [&](const HostedModel& m) {
    return std::ranges::find(m.served.aliases, name) != m.served.aliases.end();
  };
  auto found = std::ranges::find_if(models_, is_called);
  if (found == models_.end()) found = std::ranges::find_if(models_, has_alias);
  if (found != models_.end()) return *found;
  std::string names;
  for (const HostedModel& m : models_) {
    names += fmt::format("{}\"{}\"", names.empty() ? "" : " or ", m.served.name);
  }
  throw ApiError(
      404, "invalid_request_error", "model_not_found",
      fmt::format("model: expected {}, got \"{}\"", names, escaped_bytes(name.substr(0, 100))));
}

void HostedModels::close() {
  for (HostedModel& m : models_) m.scheduler.close();
}

void HostedModels::cancel_all() {
  for (HostedModel& m : models_) m.scheduler.cancel_all();
}

bool HostedModels::wait_idle(std::chrono::milliseconds at_most) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + at_most;
  bool idle = true;
  for (HostedModel& m : models_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    idle = m.scheduler.wait_idle(std::max(left, std::chrono::milliseconds(0))) && idle;
  }
  return idle;
}

}  // namespace schmidt::serve
