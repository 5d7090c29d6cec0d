#include "schmidt/text/vocabulary.h"

#include <fmt/format.h>

namespace schmidt::text {

Vocabulary::Vocabulary(const JsonView& json) {
  if (!json.value().is_object()) {
    json.fail(fmt::format("expected an object of tokens, got {}", json.value().type_name()));
  }
  ids_.reserve(json.value().size());
  for (const auto& [token, id] : json.value().items()) {
    add(token, JsonView(id, json.path(), json.where() + "." + token).integer(), json);
  }
}

void Vocabulary::add(std::string token, int64_t id, const JsonView& place) {
  const int64_t limit = static_cast<int64_t>(ids_.size()) + kMaxHoles;
  if (id < 0 || id > limit) {
    place.fail(fmt::format("expected ids of 0 .. {}, got {} for \"{}\"", limit, id, token));
  }
  const auto [entry, is_new] = ids_.try_emplace(std::move(token), id);
  if (!is_new && entry->second != id) {
    place.fail(
        fmt::format("expected one id for \"{}\", got {} and {}", entry->first, entry->second, id));
  }
  if (id >= size()) tokens_.resize(id + 1, nullptr);
  if (tokens_[id] != nullptr && tokens_[id] != &entry->first) {
    place.fail(fmt::format("expected one token for id {}, got \"{}\" and \"{}\"", id, *tokens_[id],
                           entry->first));
  }
  tokens_[id] = &entry->first;
}

std::optional<int64_t> Vocabulary::id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::token(int64_t id) const {
  return id >= 0 && id < size() ? tokens_[id] : nullptr;
}

}  // namespace schmidt::text
