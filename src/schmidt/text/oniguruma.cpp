// Oniguruma's dialect rewritten in PCRE2's, declared in regex.h.
#include <cctype>
#include <map>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/text/regex.h"
#include "schmidt/text/unicode_properties.h"

namespace schmidt::text {
namespace {

std::string ranges(std::span<const CodePointRange> list) {
  std::string text;
  for (const CodePointRange& r : list) {
    text += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<uint32_t>(r.first),
                        static_cast<uint32_t>(r.last));
  }
  return text;
}

// Members of a category as they stand in a bracket.
std::string category(const std::string& name) {
  return "\\p{" + name + "}" + ranges(later_members(name));
}

std::string complement(std::span<const CodePointRange> sorted) {
  std::vector<CodePointRange> gaps;
  char32_t next = 0;
  for (const CodePointRange& r : sorted) {
    gaps.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  gaps.push_back({next, 0x10FFFF});
  return ranges(gaps);
}

// What stands in a bracket for the shorthand `\letter`.
const std::map<char, std::string>& shorthands() {
  static const std::map<char, std::string> kTable = {
      {'s', ranges(white_space())},
      {'S', complement(white_space())},
      {'d', category("Nd")},
      {'h', "0-9a-fA-F"},
      {'w', "\\p{Alphabetic}\\p{Pc}" + category("L") + category("M") + category("Nd")}};
  return kTable;
}

// Outside brackets Oniguruma takes `\w` below U+0100 from a table of Latin-1, which
// counts superscript digits and fractions as word characters.
std::string lone_shorthand(char letter) {
  constexpr const char* kLatin1Numbers = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
  return shorthands().at(letter) + (letter == 'w' ? kLatin1Numbers : "");
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (c == '[') {
        bracket();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        out_ += c;
        ++at_;
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    TORCH_CHECK_VALUE(false, "[Regex] ", what, " at byte ", at_, " of \"", in_.substr(0, 200),
                      "\" is not supported");
    std::abort();  // not reached
  }

  char peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  // \p{X}, \p{^X}, \P{X} at at_ -> name and sign; advances.
  struct Property {
    std::string name;
    bool negated;
  };
  Property property() {
    const size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("a property without {name}");
    Property p{std::string(in_.substr(at_ + 3, close - at_ - 3)), peek(1) == 'P'};
    if (!p.name.empty() && p.name[0] == '^') {
      p.name.erase(0, 1);
      p.negated = !p.negated;
    }
    at_ = close + 1;
    return p;
  }

  // \uHHHH at at_ -> \x{HHHH}; advances. False for any other escape.
  bool code_unit() {
    const std::string_view digits = in_.substr(at_, 6);
    if (peek(1) != 'u') return false;
    if (digits.size() != 6 || !std::all_of(digits.begin() + 2, digits.end(), [](char c) {
          return std::isxdigit(static_cast<unsigned char>(c)) != 0;
        })) {
      refuse("an escape without four hexadecimal digits");
    }
    out_ += fmt::format("\\x{{{}}}", digits.substr(2));
    at_ += 6;
    return true;
  }

  void escape() {
    if (code_unit()) return;
    const char letter = peek(1);
    const char lower = static_cast<char>(letter | 0x20);
    if (letter == 'p' || letter == 'P') {
      const Property p = property();
      out_ += fmt::format("[{}{}]", p.negated ? "^" : "", category(p.name));
      return;
    }
    if (letter == 'b' || letter == 'B') {
      const std::string w = lone_shorthand('w');
      out_ += letter == 'b' ? fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", w)
                            : fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", w);
    } else if (letter != '\0' && shorthands().contains(lower)) {
      out_ += fmt::format("[{}{}]", letter == lower ? "" : "^", lone_shorthand(lower));
    } else {
      out_ += in_.substr(at_, 2);
    }
    at_ += 2;
  }

  void bracket() {
    out_ += '[';
    ++at_;
    if (peek(0) == '^') out_ += in_[at_++];
    if (peek(0) == ']') out_ += "\\]", ++at_;
    while (at_ < in_.size() && in_[at_] != ']') {
      const char c = in_[at_];
      if (c == '\\') {
        escape_in_bracket();
      } else if (c == '[' && peek(1) == ':') {
        refuse("a POSIX bracket");
      } else if (c == '[') {
        refuse("a bracket within a bracket");
      } else if (c == '&' && peek(1) == '&') {
        refuse("an intersection");
      } else {
        out_ += c;
        ++at_;
      }
    }
    if (at_ == in_.size()) refuse("an open bracket");
    out_ += ']';
    ++at_;
  }

  void escape_in_bracket() {
    if (code_unit()) return;
    const char letter = peek(1);
    if (letter == 'p' || letter == 'P') {
      const Property p = property();
      // A complement cannot lose members inside a bracket; later ones stay wrong.
      if (p.negated && !later_members(p.name).empty()) refuse("a negated category in a bracket");
      out_ += p.negated ? "\\P{" + p.name + "}" : category(p.name);
      return;
    }
    if (letter == 'W' || letter == 'D' || letter == 'H') refuse("a negated class in a bracket");
    const auto found = shorthands().find(letter);
    out_ += found != shorthands().end() ? found->second : std::string(in_.substr(at_, 2));
    at_ += 2;
  }

  // Inline options: Oniguruma's m is PCRE2's s.
  void group() {
    out_ += in_[at_++];
    if (peek(0) != '?') return;
    out_ += in_[at_++];
    size_t end = at_;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) {
      ++end;
    }
    if (end == in_.size() || (in_[end] != ':' && in_[end] != ')')) return;
    for (; at_ < end; ++at_) {
      if (in_[at_] == 'x') refuse("extended syntax");
      out_ += in_[at_] == 'm' ? 's' : in_[at_];
    }
  }

  // {,n} is {0,n}; a + behind an interval repeats it there and is possessive here.
  void interval() {
    const size_t close = in_.find('}', at_);
    if (close != std::string_view::npos && close + 1 < in_.size() && in_[close + 1] == '+') {
      refuse("an interval that repeats");
    }
    out_ += peek(1) == ',' ? "{0" : "{";
    ++at_;
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace schmidt::text
