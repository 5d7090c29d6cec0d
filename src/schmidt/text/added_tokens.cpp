#include "schmidt/text/added_tokens.h"

#include "schmidt/text/regex.h"
#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

size_t white_space_before(std::string_view text, size_t position, size_t limit) {
  while (position > limit) {
    const CodePoint c = code_point_before(text, position);
    if (!is_white_space(c.value)) break;
    position -= c.length;
  }
  return position;
}

size_t white_space_behind(std::string_view text, size_t position) {
  while (position < text.size()) {
    const CodePoint c = code_point_at(text, position);
    if (!is_white_space(c.value)) break;
    position += c.length;
  }
  return position;
}

bool touches_word(std::string_view text, Span span) {
  return (span.begin > 0 && is_word(code_point_before(text, span.begin).value)) ||
         (span.end < text.size() && is_word(code_point_at(text, span.end).value));
}

}  // namespace

std::vector<AddedToken> parse_added_tokens(const JsonView& json) {
  std::vector<AddedToken> tokens;
  for (const JsonView& item : json.items()) {
    AddedToken token{item.at("id").integer(),
                     item.at("content").string(),
                     item.boolean_or("special", false),
                     item.boolean_or("lstrip", false),
                     item.boolean_or("rstrip", false),
                     item.boolean_or("single_word", false),
                     item.boolean_or("normalized", false)};
    if (token.content.empty()) item.fail("expected the token's text, got an empty string");
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void AddedTokens::Trie::insert(std::string_view content, size_t token) {
  size_t at = 0;
  for (const char c : content) {
    const auto [entry, is_new] = nodes[at].next.try_emplace(c, nodes.size());
    at = entry->second;
    if (is_new) nodes.emplace_back();
  }
  if (!nodes[at].token) nodes[at].token = token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)), normalizer_(normalizer) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    spellings_.push_back(token.content);
    if (token.special) special_.insert(token.id);
    by_id_.emplace(token.id, i);
    by_content_.emplace(token.content, i);
    size_ = std::max(size_, token.id + 1);
    if (!token.normalized) {
      raw_.insert(token.content, i);
      continue;
    }
    if (normalizer_) spellings_[i] = normalizer_(token.content);
    if (!spellings_[i].empty()) normalized_.insert(spellings_[i], i);
  }
}

const std::string* AddedTokens::token(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &spellings_[found->second];
}

std::optional<int64_t> AddedTokens::id(std::string_view token) const {
  const auto found = by_content_.find(token);
  if (found == by_content_.end()) return std::nullopt;
  return tokens_[found->second].id;
}

void AddedTokens::split_at(const Trie& trie, std::string_view text, bool at_start,
                           bool parse_special, std::vector<Segment>& segments) const {
  size_t done = 0;  // everything before is in `segments`
  for (size_t i = 0; i < text.size();) {
    Span match{i, i};
    const AddedToken* token = nullptr;
    size_t node = 0;
    for (size_t j = i; j < text.size(); ++j) {
      const auto next = trie.nodes[node].next.find(text[j]);
      if (next == trie.nodes[node].next.end()) break;
      node = next->second;
      if (!trie.nodes[node].token) continue;
      token = &tokens_[*trie.nodes[node].token];
      match.end = j + 1;
    }
    if (token == nullptr) {
      ++i;
      continue;
    }
    i = match.end;
    if (token->special && !parse_special) continue;
    if (token->single_word && touches_word(text, match)) continue;
    if (token->lstrip) match.begin = white_space_before(text, match.begin, done);
    if (token->rstrip) match.end = white_space_behind(text, match.end);
    if (match.begin > done) {
      segments.push_back(
          {{}, std::string(text.substr(done, match.begin - done)), at_start && done == 0});
    }
    segments.push_back({token->id, {}, false});
    done = i = match.end;
  }
  if (done < text.size()) {
    segments.push_back({{}, std::string(text.substr(done)), at_start && done == 0});
  }
}

std::vector<AddedTokens::Segment> AddedTokens::split(std::string_view text,
                                                     bool parse_special) const {
  std::vector<Segment> raw, result;
  split_at(raw_, text, true, parse_special, raw);
  for (Segment& segment : raw) {
    if (segment.id) {
      result.push_back(std::move(segment));
      continue;
    }
    if (normalizer_) segment.text = normalizer_(std::move(segment.text));
    split_at(normalized_, segment.text, segment.at_start, parse_special, result);
  }
  return result;
}

}  // namespace schmidt::text
