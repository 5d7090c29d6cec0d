#include "schmidt/text/decoder.h"

#include <map>
#include <utility>

#include "schmidt/text/byte_level.h"
#include "schmidt/text/pattern.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Gathers fragments to whole tokens for the stages that need them.
class WholeToken {
 public:
  // The token, once `fragment` ends it.
  std::optional<std::string> add(Fragment fragment) {
    if (fragment.begins && fragment.ends) return std::move(fragment.text);
    if (fragment.begins) text_.clear();
    text_ += fragment.text;
    if (!fragment.ends) return std::nullopt;
    return std::exchange(text_, {});
  }

 private:
  std::string text_;
};

// A stage that turns each token into one other, whatever its neighbours are.
class MapStage : public DecodeStage {
 public:
  using Function = std::function<std::string(std::string)>;
  explicit MapStage(Function function) : function_(std::move(function)) {}
  void push(Fragment fragment, const FragmentSink& sink) override {
    if (auto token = token_.add(std::move(fragment))) sink({function_(std::move(*token))});
  }
  void flush(const FragmentSink&) override {}

 private:
  Function function_;
  WholeToken token_;
};

// All tokens become one.
class FuseStage : public DecodeStage {
 public:
  void push(Fragment fragment, const FragmentSink& sink) override {
    sink({std::move(fragment.text), !begun_, false});
    begun_ = true;
  }
  void flush(const FragmentSink& sink) override { sink({"", !begun_, true}); }

 private:
  bool begun_ = false;
};

// All tokens become one, their characters the bytes of UTF-8.
class ByteLevelStage : public DecodeStage {
 public:
  void push(Fragment fragment, const FragmentSink& sink) override {
    const auto token = token_.add(std::move(fragment));
    if (!token) return;
    bytes_ += from_byte_characters(*token);
    const size_t settled = settled_prefix(bytes_);
    sink({to_valid_utf8(std::string_view(bytes_).substr(0, settled)), !begun_, false});
    bytes_.erase(0, settled);
    begun_ = true;
  }
  void flush(const FragmentSink& sink) override { sink({to_valid_utf8(bytes_), !begun_, true}); }

 private:
  WholeToken token_;
  std::string bytes_;
  bool begun_ = false;
};

// A run of byte tokens becomes one token if it is UTF-8 as a whole, otherwise one
// U+FFFD for each byte: nothing of it is settled before the run ends.
class ByteFallbackStage : public DecodeStage {
 public:
  void push(Fragment fragment, const FragmentSink& sink) override {
    auto token = token_.add(std::move(fragment));
    if (!token) return;
    if (const auto byte = parse_byte_token(*token)) {
      run_ += *byte;
      return;
    }
    flush(sink);
    sink({std::move(*token)});
  }
  void flush(const FragmentSink& sink) override {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      sink({run_});
    } else {
      for (size_t i = 0; i < run_.size(); ++i) sink({std::string(kReplacement)});
    }
    run_.clear();
  }

 private:
  WholeToken token_;
  std::string run_;
};

// Takes up to `start` times `content` from the beginning of each token, and up to
// `stop` times from its end.
class StripStage : public DecodeStage {
 public:
  StripStage(std::string content, int64_t start, int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  void push(Fragment fragment, const FragmentSink& sink) override {
    if (stop_ > 0) {
      if (auto token = token_.add(std::move(fragment))) sink({strip_end(strip_start(*token))});
      return;
    }
    if (fragment.begins) left_ = start_;
    size_t cut = 0;
    while (left_ > 0 && cut < fragment.text.size()) {
      if (fragment.text.compare(cut, content_.size(), content_) != 0) {
        left_ = 0;
        break;
      }
      cut += content_.size();
      --left_;
    }
    sink({fragment.text.substr(cut), fragment.begins, fragment.ends});
  }
  void flush(const FragmentSink&) override {}

 private:
  std::string strip_start(std::string token) const {
    for (int64_t i = 0; i < start_ && token.starts_with(content_); ++i) {
      token.erase(0, content_.size());
    }
    return token;
  }
  std::string strip_end(std::string token) const {
    for (int64_t i = 0; i < stop_ && token.ends_with(content_); ++i) {
      token.resize(token.size() - content_.size());
    }
    return token;
  }

  std::string content_;
  int64_t start_, stop_;
  int64_t left_ = 0;  // of start_ in the current token
  WholeToken token_;
};

// The stand-in becomes a space; in the first token it vanishes if one is prepended.
class MetaspaceStage : public DecodeStage {
 public:
  MetaspaceStage(std::string mark, bool drops_first) : mark_(std::move(mark)), drop_(drops_first) {}

  void push(Fragment fragment, const FragmentSink& sink) override {
    std::string text;
    for (size_t i = 0; i < fragment.text.size();) {
      const size_t found = std::min(fragment.text.find(mark_, i), fragment.text.size());
      text.append(fragment.text, i, found - i);
      if (found < fragment.text.size() && !drop_) text += ' ';
      i = found + mark_.size();
    }
    if (fragment.ends) drop_ = false;
    sink({std::move(text), fragment.begins, fragment.ends});
  }
  void flush(const FragmentSink&) override {}

 private:
  std::string mark_;
  bool drop_;
};

class JoinStage : public DecodeStage {
 public:
  void push(Fragment fragment, const FragmentSink& sink) override {
    if (begun_ && fragment.begins) fragment.text.insert(0, 1, ' ');
    begun_ = true;
    sink(std::move(fragment));
  }
  void flush(const FragmentSink&) override {}

 private:
  bool begun_ = false;
};

template <typename Stage, typename... Arguments>
DecoderFactory single(Arguments... arguments) {
  return [=] {
    std::vector<std::unique_ptr<DecodeStage>> stages;
    stages.push_back(std::make_unique<Stage>(arguments...));
    return stages;
  };
}

DecoderFactory make_sequence(const JsonView& json) {
  std::vector<DecoderFactory> factories;
  for (const JsonView& item : json.at("decoders").items()) factories.push_back(make_decoder(item));
  return [factories] {
    std::vector<std::unique_ptr<DecodeStage>> stages;
    for (const DecoderFactory& factory : factories) {
      for (auto& stage : factory()) stages.push_back(std::move(stage));
    }
    return stages;
  };
}

DecoderFactory make_replace(const JsonView& json) {
  return single<MapStage>(MapStage::Function(
      [pattern = Pattern(json.at("pattern")), content = json.at("content").string()](
          const std::string& token) { return pattern.replace_all(token, content); }));
}

DecoderFactory make_strip(const JsonView& json) {
  const std::string& content = json.at("content").string();
  if (content.empty()) json.at("content").fail("expected a character, got an empty string");
  return single<StripStage>(content, json.at("start").integer(), json.at("stop").integer());
}

DecoderFactory make_metaspace(const JsonView& json) {
  const std::string mark = json.string_or("replacement", "\xE2\x96\x81");
  if (mark.empty()) json.fail("expected a replacement for spaces, got an empty string");
  const bool prepends = json.find("prepend_scheme") ? json.at("prepend_scheme").string() != "never"
                                                    : json.boolean_or("add_prefix_space", true);
  return single<MetaspaceStage>(mark, prepends);
}

using Builder = DecoderFactory (*)(const JsonView&);

const std::map<std::string, Builder>& builders() {
  static const std::map<std::string, Builder> kTable = {
      {"Sequence", make_sequence},
      {"ByteLevel", [](const JsonView&) { return single<ByteLevelStage>(); }},
      {"ByteFallback", [](const JsonView&) { return single<ByteFallbackStage>(); }},
      {"Fuse", [](const JsonView&) { return single<FuseStage>(); }},
      {"Replace", make_replace},
      {"Strip", make_strip},
      {"Metaspace", make_metaspace}};
  return kTable;
}

}  // namespace

std::optional<char> parse_byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    if ('0' <= c && c <= '9') {
      value = value * 16 + (c - '0');
    } else if ('A' <= (c & ~0x20) && (c & ~0x20) <= 'F') {
      value = value * 16 + ((c & ~0x20) - 'A' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<char>(value);
}

DecoderFactory make_decoder(const JsonView& json) {
  return json.at("type").look_up(builders(), "decoder")(json);
}

DecoderFactory make_joining_decoder() { return single<JoinStage>(); }

void Decoding::push_into(size_t stage, Fragment fragment, std::string& text) {
  if (stage == stages_.size()) {
    text += fragment.text;
    return;
  }
  stages_[stage]->push(std::move(fragment),
                       [&](Fragment next) { push_into(stage + 1, std::move(next), text); });
}

std::string Decoding::push(std::string token) {
  std::string text;
  push_into(0, {std::move(token)}, text);
  return text;
}

std::string Decoding::flush() {
  std::string text;
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    stages_[stage]->flush([&](Fragment next) { push_into(stage + 1, std::move(next), text); });
  }
  return text;
}

}  // namespace schmidt::text
