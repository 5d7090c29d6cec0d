#include "schmidt/heal/stream.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/base/shuffle.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/text/chat.h"

namespace schmidt::heal {
namespace {

using nlohmann::json;

// Windows to choose from: padding falls with their number, the delay of each rises.
constexpr size_t kPending = 64;
// Windows in a piece of plain text, and bytes in a token of it, about.
constexpr int64_t kPieceWindows = 8;
constexpr int64_t kTokenBytes = 4;

std::vector<int64_t> sizes_of(const std::vector<Example>& windows) {
  std::vector<int64_t> sizes;
  for (const Example& w : windows) sizes.push_back(static_cast<int64_t>(w.ids.size()));
  return sizes;
}

/// Moves the items at `chosen`, ascending, out of `items`.
template <typename T>
std::vector<T> taken_out(std::vector<T>& items, const std::vector<size_t>& chosen) {
  std::vector<T> taken;
  for (const size_t i : chosen) taken.push_back(std::move(items[i]));
  for (size_t i = chosen.size(); i-- > 0;) items.erase(items.begin() + chosen[i]);
  return taken;
}

/// The one of `done` that is furthest behind its share; the first of equals.
template <typename Done>
int64_t furthest_behind(size_t sources, const Done& done_by_share) {
  int64_t behind = 0;
  for (size_t s = 1; s < sources; ++s) {
    if (done_by_share(s) < done_by_share(static_cast<size_t>(behind))) {
      behind = static_cast<int64_t>(s);
    }
  }
  return behind;
}

void expect_state(bool is_one) {
  TORCH_CHECK_VALUE(is_one, "[stream] expected the state of a stream, got something else");
}

int64_t integer_of(const json& value, int64_t most) {
  expect_state(value.is_number_integer() && value >= 0 && value <= most);
  return value.get<int64_t>();
}

}  // namespace

Stream::Stream(const std::vector<Source>& sources, const text::Tokenizer& tokenizer,
               std::string model_type, const StreamOptions& options)
    : tokenizer_(tokenizer), model_type_(std::move(model_type)), options_(options) {
  TORCH_CHECK_VALUE(!sources.empty(), "[stream] expected one file of text or more, got none");
  TORCH_CHECK_VALUE(options.context >= 2, "[stream] expected a context of 2 tokens or more, got ",
                    options.context);
  TORCH_CHECK_VALUE(options.held_out >= 0, "[stream] expected 0 or more rows held out, got ",
                    options.held_out);
  open(sources);
  hold_out();
  for (size_t s = 0; s < readers_.size(); ++s) readers_[s].at.order = order_of(s, 0);
  refill();
}

void Stream::open(const std::vector<Source>& sources) {
  DocumentFileOptions file_options;
  file_options.piece = options_.context * kPieceWindows * kTokenBytes;
  file_options.skip_bad = options_.skip_bad;
  file_options.refusal = [&](const text::Document& document) { return refusal(document); };
  package::Fingerprint hash;
  hash.add(model_type_).add(tokenizer_.chat_template());
  hash.add(fmt::format("{} {} {} {} {}", options_.context, static_cast<int>(options_.loss_on),
                       options_.skip_bad, options_.seed, options_.held_out));
  for (const Source& source : sources) {
    TORCH_CHECK_VALUE(std::isfinite(source.share) && source.share > 0.0,
                      "[stream] expected a share above 0, got ", source.share, " of \"",
                      source.file.string(), "\"");
    readers_.push_back({DocumentFile(source.file, file_options), source.share});
    hash.add(fmt::format("{} {}", source.share, readers_.back().file.content_hash()));
  }
  fingerprint_ = hash.hex();
}

std::optional<std::string> Stream::refusal(const text::Document& document) const {
  if (document.messages.empty()) return std::nullopt;
  return text::chat_refusal(tokenizer_, model_type_, document.messages);
}

std::vector<int64_t> Stream::order_of(int64_t source, int64_t epoch) const {
  const auto half = [](uint64_t value, int part) {
    return static_cast<uint32_t>(value >> 32 * part);
  };
  std::seed_seq seed{half(options_.seed, 0), half(options_.seed, 1), static_cast<uint32_t>(source),
                     static_cast<uint32_t>(epoch)};
  std::mt19937_64 random(seed);
  return shuffled(readers_[source].file.size(), random);
}

std::vector<Example> Stream::windows_in(int64_t source, int64_t document) {
  Reader& reader = readers_[source];
  if (std::binary_search(reader.held.begin(), reader.held.end(), document)) return {};
  return windows_of(
      make_example(tokenizer_, model_type_, reader.file.read(document), options_.loss_on),
      options_.context);
}

void Stream::hold_out() {
  std::vector<int64_t> rows(readers_.size());
  for (int64_t i = 0; i < options_.held_out; ++i) {
    ++rows[furthest_behind(readers_.size(), [&](size_t s) {
      return static_cast<double>(rows[s] + 1) / readers_[s].share;
    })];
  }
  for (size_t s = 0; s < readers_.size(); ++s) {
    Reader& reader = readers_[s];
    const std::vector<int64_t> order = order_of(s, 0);
    std::vector<Example> windows;
    std::vector<int64_t> held;
    int64_t tokens = 0;
    for (size_t i = 0; tokens < rows[s] * options_.context; ++i) {
      TORCH_CHECK_VALUE(i + 1 < order.size(), "[stream] ", rows[s], " rows held out of \"",
                        reader.file.path().string(), "\" leave nothing of its ", order.size(),
                        " documents, the first of which have ", tokens,
                        " tokens that are learned; expected fewer rows or more text");
      held.push_back(order[i]);
      for (Example& window : windows_in(s, order[i])) {
        tokens += static_cast<int64_t>(window.ids.size());
        windows.push_back(std::move(window));
      }
    }
    std::sort(held.begin(), held.end());
    reader.held = std::move(held);
    for (int64_t r = 0; r < rows[s]; ++r) {
      held_rows_.push_back(taken_out(windows, best_fit(sizes_of(windows), options_.context)));
    }
  }
}

Stream::Pending Stream::draw(int64_t source) {
  Reader& reader = readers_[source];
  Cursor& at = reader.at;
  for (bool is_new_epoch = false; at.window == std::ssize(at.windows);) {
    if (at.position == std::ssize(at.order)) {
      // A whole epoch without one window: there will never be any.
      if (std::exchange(is_new_epoch, true)) {
        throw FormatError(reader.file.path(), "text",
                          "expected an example with a token to be learned, found none");
      }
      at.order = order_of(source, ++at.epoch);
      at.position = 0;
    }
    at.windows = windows_in(source, at.order[at.position++]);
    at.window = 0;
  }
  Example& window = at.windows[at.window];
  at.given += static_cast<int64_t>(window.ids.size());
  return {{source, at.order[at.position - 1], at.window++}, std::move(window)};
}

void Stream::refill() {
  while (pending_.size() < kPending) {
    pending_.push_back(draw(furthest_behind(readers_.size(), [&](size_t s) {
      return static_cast<double>(readers_[s].at.given) / readers_[s].share;
    })));
  }
}

Batch Stream::next(int64_t rows) {
  TORCH_CHECK_VALUE(rows >= 1, "[stream] expected 1 row or more, got ", rows);
  std::vector<std::vector<Example>> chosen;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<int64_t> sizes;
    for (const Pending& p : pending_) sizes.push_back(static_cast<int64_t>(p.window.ids.size()));
    chosen.emplace_back();
    for (Pending& p : taken_out(pending_, best_fit(sizes, options_.context))) {
      tokens_ += static_cast<int64_t>(p.window.ids.size());
      chosen.back().push_back(std::move(p.window));
    }
    refill();
  }
  return make_batch(chosen, options_.context);
}

std::vector<Batch> Stream::held_out(int64_t rows) const {
  TORCH_CHECK_VALUE(rows >= 1, "[stream] expected 1 row or more, got ", rows);
  std::vector<Batch> batches;
  for (auto begin = held_rows_.begin(); begin != held_rows_.end();) {
    const auto end = begin + std::min<int64_t>(rows, held_rows_.end() - begin);
    batches.push_back(make_batch({begin, end}, options_.context));
    begin = end;
  }
  return batches;
}

int64_t Stream::skipped() const {
  int64_t lines = 0;
  for (const Reader& reader : readers_) lines += reader.file.skipped();
  return lines;
}

double Stream::epochs() const {
  const Reader& first = readers_.front();
  return static_cast<double>(first.at.epoch) +
         static_cast<double>(first.at.position) / static_cast<double>(first.file.size());
}

json Stream::state() const {
  json readers = json::array(), pending = json::array();
  for (const Reader& r : readers_) {
    readers.push_back({{"epoch", r.at.epoch},
                       {"position", r.at.position},
                       {"window", r.at.window},
                       {"given", r.at.given}});
  }
  for (const Pending& p : pending_) {
    pending.push_back({p.place.source, p.place.document, p.place.window});
  }
  return {{"fingerprint", fingerprint_},
          {"tokens", tokens_},
          {"sources", readers},
          {"pending", pending}};
}

Stream::Cursor Stream::cursor_at(int64_t source, const json& state) {
  Cursor at;
  at.epoch = integer_of(state.at("epoch"), std::numeric_limits<int64_t>::max());
  at.order = order_of(source, at.epoch);
  at.position = integer_of(state.at("position"), std::ssize(at.order));
  if (at.position > 0) at.windows = windows_in(source, at.order[at.position - 1]);
  at.window = integer_of(state.at("window"), std::ssize(at.windows));
  at.given = integer_of(state.at("given"), std::numeric_limits<int64_t>::max());
  return at;
}

void Stream::restore(const json& state) {
  expect_state(state.is_object() && state.contains("fingerprint"));
  TORCH_CHECK_VALUE(state["fingerprint"] == fingerprint_,
                    "[stream] expected the state of a stream of the same files, shares and "
                    "options, got that of others");
  std::vector<Cursor> cursors;
  std::vector<Pending> pending;
  int64_t tokens = 0;
  try {
    tokens = integer_of(state.at("tokens"), std::numeric_limits<int64_t>::max());
    for (const json& source : state.at("sources")) {
      expect_state(cursors.size() < readers_.size());
      cursors.push_back(cursor_at(std::ssize(cursors), source));
    }
    for (const json& place : state.at("pending")) {
      Pending p;
      p.place.source = integer_of(place.at(0), std::ssize(readers_) - 1);
      p.place.document = integer_of(place.at(1), readers_[p.place.source].file.size() - 1);
      std::vector<Example> windows = windows_in(p.place.source, p.place.document);
      p.place.window = integer_of(place.at(2), std::ssize(windows) - 1);
      p.window = std::move(windows[p.place.window]);
      pending.push_back(std::move(p));
    }
  } catch (const json::exception&) {
    expect_state(false);
  }
  expect_state(cursors.size() == readers_.size() && pending.size() == kPending);
  for (size_t s = 0; s < readers_.size(); ++s) readers_[s].at = std::move(cursors[s]);
  pending_ = std::move(pending);
  tokens_ = tokens;
}

}  // namespace schmidt::heal
