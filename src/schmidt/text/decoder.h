#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/text/json_view.h"

namespace schmidt::text {

/// "<0x41>" -> 0x41; none for another text.
std::optional<char> parse_byte_token(std::string_view token);

/// A token on its way to text, or part of one: a stage may pass a long token on in
/// pieces. Valid UTF-8; may be empty.
struct Fragment {
  std::string text;
  bool begins = true;  ///< a token begins with it
  bool ends = true;    ///< the token ends with it
};

using FragmentSink = std::function<void(Fragment)>;

/// One step of turning tokens into text. It works on a stream: what a fragment
/// settles is passed on at once, the rest when more comes or at the end. Decoding
/// everything and decoding bit by bit are thus the same.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual void push(Fragment fragment, const FragmentSink& sink) = 0;
  virtual void flush(const FragmentSink& sink) = 0;
};

/// Makes fresh stages, one set for each text. Safe for several threads.
using DecoderFactory = std::function<std::vector<std::unique_ptr<DecodeStage>>()>;

/// The `decoder` object of tokenizer.json: Sequence, ByteLevel, ByteFallback, Fuse,
/// Replace, Strip, Metaspace. Throws FormatError for another type or a wrong field.
DecoderFactory make_decoder(const JsonView& json);

/// What a tokenizer without a decoder does: a space between tokens.
DecoderFactory make_joining_decoder();

/// The stages of one text, in a row.
class Decoding {
 public:
  explicit Decoding(const DecoderFactory& factory) : stages_(factory()) {}
  /// What the token settles; may be empty.
  std::string push(std::string token);
  /// The rest.
  std::string flush();

 private:
  void push_into(size_t stage, Fragment fragment, std::string& text);
  std::vector<std::unique_ptr<DecodeStage>> stages_;
};

}  // namespace schmidt::text
