#include "schmidt/infer/slot.h"

#include <algorithm>

namespace schmidt::infer {

Running::Running(Job started, int64_t context)
    : job(std::move(started)),
      tokens(job.request.prompt),
      sampler(job.request.sampling, job.request.stream) {
  // The last token that is drawn takes no place in the cache.
  const int64_t room = context + 1 - size();
  max_size = size() + std::min(job.request.max_new_tokens, room);
  outcome.prompt_tokens = size();
}

bool read_whole(int64_t tokens, const model::RopeConfig& rope) {
  return rope.scaling == model::RopeScaling::kDynamic && tokens > rope.original_max_positions;
}

int64_t reusable_tokens(const Slot& slot, const Request& request, const model::RopeConfig& rope) {
  const std::vector<int64_t>& prompt = request.prompt;
  if (read_whole(static_cast<int64_t>(prompt.size()), rope) ||
      read_whole(static_cast<int64_t>(slot.held.size()), rope)) {
    return 0;
  }
  const size_t longest = std::min(prompt.size(), slot.held.size());
  const int64_t common =
      std::mismatch(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(longest),
                    slot.held.begin())
          .first -
      prompt.begin();
  if (request.score_prompt) {
    if (slot.top != *request.top_scores) return 0;
    return std::clamp<int64_t>(common - 1, 0, static_cast<int64_t>(slot.scores.size()));
  }
  return std::min(common, static_cast<int64_t>(prompt.size()) - 1);
}

void start(Slot& slot, int64_t row, Job job, int64_t reused, model::KvCache& cache) {
  const Request& request = job.request;
  // The score of the token behind the reused ones is known to be its own in a scored prompt only.
  const int64_t known = request.score_prompt ? reused : std::max<int64_t>(reused - 1, 0);
  cache.truncate(row, reused);
  slot.held.resize(reused);
  slot.scores.resize(std::min<size_t>(slot.scores.size(), known));
  if (request.score_prompt) slot.top = *request.top_scores;
  slot.running.emplace(std::move(job), cache.capacity());
  slot.running->outcome.reused_tokens = reused;
}

}  // namespace schmidt::infer
