#include "schmidt/infer/slot.h"

#include <algorithm>
#include <iterator>
#include <utility>

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

Place choose_place(const std::vector<Slot>& slots, const Request& request,
                   const model::RopeConfig& rope) {
  Place place{.slot = slots.size()};
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t reusable = reusable_tokens(slots[i], request, rope);
    const bool spares_a_copy = reusable == place.reused && reusable > 0 && !slots[i].running &&
                               slots[place.source].running;
    if (reusable > place.reused || spares_a_copy) {
      place.source = i;
      place.reused = reusable;
    }
  }
  const Slot& source = slots[place.source];
  if (!source.running && place.reused > 0 &&
      std::cmp_greater_equal(2 * place.reused, source.held.size())) {
    place.slot = place.source;
    return place;
  }
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].running) continue;
    const auto loss = [&](size_t slot) {
      return std::pair(!slots[slot].held.empty(), slots[slot].last_used);
    };
    if (place.slot == slots.size() || loss(i) < loss(place.slot)) place.slot = i;
  }
  TORCH_INTERNAL_ASSERT(place.slot < slots.size());
  if (place.reused == 0) place.source = place.slot;
  return place;
}

void start(std::vector<Slot>& slots, const Place& place, Job job, model::KvCache& cache) {
  const Request& request = job.request;
  const Slot& source = slots[place.source];
  Slot& slot = slots[place.slot];
  // The score of the token behind the reused ones is known to be its own in a scored prompt only.
  const int64_t known =
      request.score_prompt ? place.reused : std::max<int64_t>(place.reused - 1, 0);
  if (place.source != place.slot) {  // whatever becomes of its row, the slot claims nothing of it
    slot.held.clear();
    slot.scores.clear();
  }
  cache.share_prefix(static_cast<int64_t>(place.source), static_cast<int64_t>(place.slot),
                     place.reused);
  if (place.source != place.slot) {
    slot.held.assign(source.held.begin(), source.held.begin() + place.reused);
    slot.scores.assign(
        source.scores.begin(),
        source.scores.begin() + std::min<std::ptrdiff_t>(std::ssize(source.scores), known));
    slot.top = source.top;
  }
  slot.held.resize(place.reused);
  slot.scores.resize(std::min<size_t>(slot.scores.size(), known));
  if (request.score_prompt) slot.top = *request.top_scores;
  slot.running.emplace(std::move(job), cache.capacity());
  slot.running->outcome.reused_tokens = place.reused;
}

}  // namespace schmidt::infer
