#include "schmidt/text/pre_tokenizer.h"

#include <map>

#include <fmt/format.h>

#include "schmidt/text/byte_level.h"
#include "schmidt/text/pattern.h"
#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

// A text as consecutive stretches, matches and what lies between them.
struct Stretch {
  Span span;
  bool is_match;
};

std::vector<Stretch> stretches(const std::vector<Span>& matches, size_t size) {
  std::vector<Stretch> result;
  size_t end = 0;
  for (const Span& match : matches) {
    if (match.begin > end) result.push_back({{end, match.begin}, false});
    result.push_back({match, true});
    end = match.end;
  }
  if (end < size) result.push_back({{end, size}, false});
  return result;
}

// What becomes of the delimiters that a pattern matches.
using Behavior = std::vector<Span> (*)(const std::vector<Stretch>&);

std::vector<Span> isolated(const std::vector<Stretch>& list) {
  std::vector<Span> cut;
  cut.reserve(list.size());
  for (const Stretch& s : list) cut.push_back(s.span);
  return cut;
}

std::vector<Span> removed(const std::vector<Stretch>& list) {
  std::vector<Span> cut;
  for (const Stretch& s : list) {
    if (!s.is_match) cut.push_back(s.span);
  }
  return cut;
}

// Of several matches in a row only the first joins what stands before it.
std::vector<Span> merged_with_previous(const std::vector<Stretch>& list) {
  std::vector<Span> cut;
  bool after_match = false;
  for (const Stretch& s : list) {
    if (s.is_match && !after_match && !cut.empty()) {
      cut.back().end = s.span.end;
    } else {
      cut.push_back(s.span);
    }
    after_match = s.is_match;
  }
  return cut;
}

// Of several matches in a row only the last joins what follows.
std::vector<Span> merged_with_next(const std::vector<Stretch>& list) {
  std::vector<Span> cut;
  bool pending = false;
  for (const Stretch& s : list) {
    if (pending && !s.is_match) {
      cut.back().end = s.span.end;
    } else {
      cut.push_back(s.span);
    }
    pending = s.is_match;
  }
  return cut;
}

std::vector<Span> contiguous(const std::vector<Stretch>& list) {
  std::vector<Span> cut;
  bool matched = false;
  for (const Stretch& s : list) {
    if (!cut.empty() && s.is_match == matched) {
      cut.back().end = s.span.end;
    } else {
      cut.push_back(s.span);
    }
    matched = s.is_match;
  }
  return cut;
}

Behavior parse_behavior(const JsonView& json) {
  static const std::map<std::string, Behavior> kTable = {
      {"Isolated", isolated},
      {"Removed", removed},
      {"MergedWithPrevious", merged_with_previous},
      {"MergedWithNext", merged_with_next},
      {"Contiguous", contiguous}};
  return json.look_up(kTable, "behavior");
}

using Matcher = std::function<std::vector<Span>(const std::string&)>;

// Each character of a class is a match of its own.
Matcher characters(bool (*is_member)(char32_t)) {
  return [is_member](const std::string& text) {
    std::vector<Span> matches;
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = code_point_at(text, i);
      if (is_member(c.value)) matches.push_back({i, i + c.length});
      i += c.length;
    }
    return matches;
  };
}

PreTokenizer splitter(Matcher matcher, Behavior behavior, bool invert = false) {
  return [matcher = std::move(matcher), behavior, invert](const std::vector<Piece>& pieces) {
    std::vector<Piece> result;
    result.reserve(pieces.size());
    for (const Piece& piece : pieces) {
      std::vector<Stretch> list = stretches(matcher(piece.text), piece.text.size());
      if (invert) {
        for (Stretch& s : list) s.is_match = !s.is_match;
      }
      for (const Span& span : behavior(list)) {
        if (span.begin == span.end) continue;
        result.push_back({piece.text.substr(span.begin, span.end - span.begin),
                          piece.at_start && span.begin == 0});
      }
    }
    return result;
  };
}

PreTokenizer make_sequence(const JsonView& json) {
  std::vector<PreTokenizer> steps;
  for (const JsonView& item : json.at("pretokenizers").items()) {
    steps.push_back(make_pre_tokenizer(item));
  }
  return [steps](std::vector<Piece> pieces) {
    for (const PreTokenizer& step : steps) pieces = step(std::move(pieces));
    return pieces;
  };
}

PreTokenizer make_byte_level(const JsonView& json) {
  const bool add_prefix_space = json.boolean_or("add_prefix_space", true);
  const bool use_regex = json.boolean_or("use_regex", true);
  // GPT-2's words (openai/gpt-2, encoder.py).
  static const Regex kWords(
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  static const PreTokenizer kSplit =
      splitter([](const std::string& text) { return kWords.find_all(text); }, isolated);
  return [add_prefix_space, use_regex](std::vector<Piece> pieces) {
    if (add_prefix_space) {
      for (Piece& piece : pieces) {
        if (!piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
      }
    }
    if (use_regex) pieces = kSplit(std::move(pieces));
    for (Piece& piece : pieces) piece.text = to_byte_characters(piece.text);
    return pieces;
  };
}

PreTokenizer make_digits(const JsonView& json) {
  return splitter(characters(is_numeric),
                  json.boolean_or("individual_digits", false) ? isolated : contiguous);
}

PreTokenizer make_split(const JsonView& json) {
  return splitter([pattern = Pattern(json.at("pattern"))](
                      const std::string& text) { return pattern.find_all(text); },
                  parse_behavior(json.at("behavior")), json.boolean_or("invert", false));
}

// Whether the stand-in for a space is set before a piece that lacks it. Files before
// `prepend_scheme` have add_prefix_space.
using Prepends = bool (*)(const Piece&);

Prepends parse_prepend_scheme(const JsonView& json) {
  static const std::map<std::string, Prepends> kTable = {
      {"always", [](const Piece&) { return true; }},
      {"first", [](const Piece& piece) { return piece.at_start; }},
      {"never", [](const Piece&) { return false; }}};
  const auto scheme = json.find("prepend_scheme");
  if (!scheme) return kTable.at(json.boolean_or("add_prefix_space", true) ? "always" : "never");
  const auto found = kTable.find(scheme->string());
  if (found == kTable.end()) {
    scheme->fail(fmt::format("expected always, first or never, got \"{}\"", scheme->string()));
  }
  return found->second;
}

PreTokenizer make_metaspace(const JsonView& json) {
  const std::string mark = json.string_or("replacement", "\xE2\x96\x81");
  if (mark.empty()) json.fail("expected a replacement for spaces, got an empty string");
  const auto find_marks = [mark](const std::string& text) {
    std::vector<Span> matches;
    for (size_t at = text.find(mark); at != std::string::npos;
         at = text.find(mark, at + mark.size())) {
      matches.push_back({at, at + mark.size()});
    }
    return matches;
  };
  PreTokenizer split;
  if (json.boolean_or("split", true)) split = splitter(find_marks, merged_with_next);
  return [mark, prepends = parse_prepend_scheme(json), split](std::vector<Piece> pieces) {
    for (Piece& piece : pieces) {
      std::string text;
      text.reserve(piece.text.size() + piece.text.size() / 2);
      for (const char c : piece.text) {
        if (c == ' ') {
          text += mark;
        } else {
          text += c;
        }
      }
      if (prepends(piece) && !text.starts_with(mark)) text.insert(0, mark);
      piece.text = std::move(text);
    }
    return split ? split(std::move(pieces)) : pieces;
  };
}

PreTokenizer make_whitespace(const JsonView&) {
  // The joiners are word characters to the engine that tokenizers uses here.
  static const Regex kWords(R"([\w\x{200C}\x{200D}]+|[^\w\s\x{200C}\x{200D}]+)");
  return splitter([](const std::string& text) { return kWords.find_all(text); }, removed,
                  /*invert=*/true);
}

PreTokenizer make_whitespace_split(const JsonView&) {
  return splitter(characters(is_white_space), removed);
}

PreTokenizer make_punctuation(const JsonView& json) {
  const auto behavior = json.find("behavior");
  return splitter(characters(is_punctuation), behavior ? parse_behavior(*behavior) : isolated);
}

using Builder = PreTokenizer (*)(const JsonView&);

const std::map<std::string, Builder>& builders() {
  static const std::map<std::string, Builder> kTable = {
      {"Sequence", make_sequence},       {"ByteLevel", make_byte_level},
      {"Digits", make_digits},           {"Split", make_split},
      {"Metaspace", make_metaspace},     {"Whitespace", make_whitespace},
      {"Punctuation", make_punctuation}, {"WhitespaceSplit", make_whitespace_split}};
  return kTable;
}

}  // namespace

PreTokenizer make_pre_tokenizer(const JsonView& json) {
  return json.at("type").look_up(builders(), "pre-tokenizer")(json);
}

}  // namespace schmidt::text
