#include "schmidt/text/bpe.h"

#include <queue>

#include <fmt/format.h>

#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

// Longer words hardly ever come again.
constexpr size_t kLongestCached = 256;

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

std::string byte_token(int byte) { return fmt::format("<0x{:02X}>", byte); }

// Tokens missing here are the unknown token's, or nobody's: then text would vanish.
std::array<int64_t, 256> find_byte_tokens(const JsonView& model, const Vocabulary& vocabulary,
                                          bool has_unknown) {
  std::array<int64_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    const std::optional<int64_t> id = vocabulary.id(byte_token(byte));
    if (!id && !has_unknown) {
      model.fail(
          fmt::format("expected 256 byte tokens or an unknown token, got no {}", byte_token(byte)));
    }
    ids[byte] = id.value_or(-1);
  }
  return ids;
}

}  // namespace

std::pair<std::string, std::string> parse_merge(const JsonView& json) {
  if (json.value().is_string()) {
    const std::string& text = json.string();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      json.fail(fmt::format("expected two tokens with a space between, got \"{}\"", text));
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  const std::vector<JsonView> pair = json.items();
  if (pair.size() != 2) json.fail(fmt::format("expected two tokens, got {}", pair.size()));
  return {pair[0].string(), pair[1].string()};
}

Bpe::Bpe(const JsonView& model, const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string_or(key, "").empty()) model.at(key).fail("affixes of words are not supported");
  }
  if (const auto unknown = model.find("unk_token")) {
    unknown_id_ = vocabulary.id(unknown->string());
    if (!unknown_id_) unknown->fail(fmt::format("\"{}\" is not a token", unknown->string()));
  }
  fuse_unknown_ = model.boolean_or("fuse_unk", false);
  ignore_merges_ = model.boolean_or("ignore_merges", false);
  if (model.boolean_or("byte_fallback", false)) {
    byte_ids_ = find_byte_tokens(model, vocabulary, unknown_id_.has_value());
  }
  for (int c = 0; c < 128; ++c) {
    ascii_ids_[c] = vocabulary.id(std::string(1, static_cast<char>(c))).value_or(-1);
  }
  const JsonView merges = model.at("merges");
  merges_.reserve(merges.value().size());
  int64_t rank = 0;
  for (const JsonView& item : merges.items()) add_merge(item, rank++);
}

void Bpe::add_merge(const JsonView& json, int64_t rank) {
  const auto [left, right] = parse_merge(json);
  const auto require = [&](const std::string& token) {
    const std::optional<int64_t> id = vocabulary_->id(token);
    if (!id || token.empty()) json.fail(fmt::format("\"{}\" is not a token", token));
    return *id;
  };
  const int64_t left_id = require(left), right_id = require(right);
  // Of a pair that comes twice the last counts, as in tokenizers.
  merges_.insert_or_assign(pair_key(left_id, right_id), Merge{rank, require(left + right)});

  const CodePoint last = code_point_before(left, left.size());
  const auto left_end = vocabulary_->id(std::string_view(left).substr(left.size() - last.length));
  const auto right_start =
      vocabulary_->id(std::string_view(right).substr(0, code_point_at(right, 0).length));
  // A whole operand may itself be a first symbol: a byte token.
  for (const auto& l : {left_end, std::optional(left_id)}) {
    for (const auto& r : {right_start, std::optional(right_id)}) {
      if (l && r) borders_.insert(pair_key(*l, *r));
    }
  }
}

const Bpe::Merge* Bpe::find_merge(int64_t left, int64_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<Bpe::Symbol> Bpe::split_into_symbols(std::string_view word) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  std::optional<size_t> unknown_end;  // of an unknown symbol not yet in the list
  const auto flush = [&] {
    if (unknown_end) symbols.push_back({*unknown_id_, *unknown_end});
    unknown_end.reset();
  };
  for (size_t i = 0; i < word.size();) {
    const CodePoint c = code_point_at(word, i);
    const size_t end = i + c.length;
    const std::string_view character = word.substr(i, c.length);
    const int64_t id =
        c.value < 128 ? ascii_ids_[c.value] : vocabulary_->id(character).value_or(-1);
    const auto has_byte = [&](char b) { return (*byte_ids_)[static_cast<uint8_t>(b)] >= 0; };
    if (id >= 0) {
      flush();
      symbols.push_back({id, end});
    } else if (byte_ids_ && std::all_of(character.begin(), character.end(), has_byte)) {
      flush();
      for (const char b : character) {
        symbols.push_back({(*byte_ids_)[static_cast<uint8_t>(b)], ++i});
      }
    } else if (unknown_id_) {
      if (!fuse_unknown_) flush();
      unknown_end = end;
    }
    i = end;
  }
  flush();
  return symbols;
}

void Bpe::merge(const Symbol* symbols, size_t count, std::vector<int64_t>& ids) const {
  constexpr int64_t kNone = -1;
  struct Node {
    int64_t id, previous, next;
    bool gone = false;
  };
  struct Candidate {
    int64_t rank, position, result;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  std::vector<Node> nodes(count);
  std::vector<Candidate> heap;
  std::priority_queue queue(std::greater<Candidate>{}, std::move(heap));
  const auto offer = [&](int64_t position) {
    if (position == kNone || nodes[position].next == kNone) return;
    const Merge* m = find_merge(nodes[position].id, nodes[nodes[position].next].id);
    if (m != nullptr) queue.push({m->rank, position, m->result});
  };
  for (size_t i = 0; i < count; ++i) {
    const auto at = static_cast<int64_t>(i);
    nodes[i] = {symbols[i].id, at - 1, i + 1 < count ? at + 1 : kNone};
  }
  for (size_t i = 0; i < count; ++i) offer(static_cast<int64_t>(i));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Node& left = nodes[top.position];
    if (left.gone || left.next == kNone) continue;
    Node& right = nodes[left.next];
    // The pair may have changed since it was queued.
    const Merge* m = find_merge(left.id, right.id);
    if (m == nullptr || m->result != top.result) continue;
    left.id = top.result;
    right.gone = true;
    left.next = right.next;
    if (left.next != kNone) nodes[left.next].previous = top.position;
    offer(left.previous);
    offer(top.position);
  }
  for (const Node& node : nodes) {
    if (!node.gone) ids.push_back(node.id);
  }
}

void Bpe::encode(std::string_view word, Cache& cache, std::vector<int64_t>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto id = vocabulary_->id(word)) {
      ids.push_back(*id);
      return;
    }
  }
  const auto merge_cached = [&](std::string_view text, const Symbol* symbols, size_t count) {
    if (count == 1) {
      ids.push_back(symbols->id);
    } else if (text.size() > kLongestCached) {
      merge(symbols, count, ids);
    } else {
      const auto [entry, is_new] = cache.try_emplace(std::string(text));
      if (is_new) merge(symbols, count, entry->second);
      ids.insert(ids.end(), entry->second.begin(), entry->second.end());
    }
  };
  if (const auto known = cache.find(word); known != cache.end()) {
    ids.insert(ids.end(), known->second.begin(), known->second.end());
    return;
  }
  const std::vector<Symbol> symbols = split_into_symbols(word);
  // No token spans two symbols that no merge can ever join: what lies before and
  // behind is merged apart, which bounds the heap and lets parts be found again.
  size_t first = 0, begin = 0;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const bool last = i + 1 == symbols.size();
    if (!last && borders_.contains(pair_key(symbols[i].id, symbols[i + 1].id))) continue;
    const size_t end = last ? word.size() : symbols[i].end;
    merge_cached(word.substr(begin, end - begin), &symbols[first], i + 1 - first);
    first = i + 1;
    begin = end;
  }
}

}  // namespace schmidt::text
