#include "schmidt/text/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "schmidt/text/jinja_value.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text::jinja {
namespace {

// Tokens in a tag: as deep as its expression can be nested to one side.
constexpr size_t kMostInTag = 1000;
constexpr std::string_view kSpaces = " \t\n\v\f\r";

// Longer ones first.
constexpr std::array<std::string_view, 28> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")",
    "[",  "]",  "{",  "}",  ",",  ".",  ":", "|", "=", "<", ">", ";", "!", "@"};

// One kind of line end, and none at the very end.
std::string with_plain_line_ends(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_digit(char c) { return '0' <= c && c <= '9'; }
bool is_name_start(char c) { return ('a' <= (c | 0x20) && (c | 0x20) <= 'z') || c == '_'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      text_before(tag);
      if (tag == std::string::npos) break;
      if (source_[at_ + 1] == '#') {
        comment();
      } else {
        tag_content();
      }
    }
    add(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  size_t next_tag() const {
    for (size_t i = at_; (i = source_.find('{', i)) != std::string::npos; ++i) {
      if (i + 1 < source_.size() &&
          std::string_view("%{#").find(source_[i + 1]) != std::string::npos)
        return i;
    }
    return std::string::npos;
  }

  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  void go_to(size_t position) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                    source_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    at_ = position;
  }

  // The text up to `tag`, without the spaces that the tag takes away.
  void text_before(size_t tag) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (tag == std::string::npos) text = std::string_view(source_).substr(at_);
    std::string kept(text);
    if (tag != std::string::npos) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      if (sign == '-') {
        kept = strip(text, Ends{.left = false});
      } else if (sign != '+' && source_[tag + 1] != '{') {
        const size_t line_begin = text.rfind('\n') + 1;
        const bool starts_line = line_begin > 0 || at_ == 0 || source_[at_ - 1] == '\n';
        if (starts_line && strip(text.substr(line_begin)).empty())
          kept = text.substr(0, line_begin);
      }
    }
    if (!kept.empty()) add(Token::kText, std::move(kept));
    go_to(tag == std::string::npos ? source_.size() : tag);
  }

  // Behind the `length` signs that close a tag, and the spaces that they take away.
  void close(size_t length, bool strips, bool is_output) {
    size_t position = at_ + length;
    if (strips) {
      const std::string_view rest = std::string_view(source_).substr(position);
      position += rest.size() - strip(rest, Ends{.right = false}).size();
    } else if (!is_output && position < source_.size() && source_[position] == '\n') {
      ++position;
    }
    go_to(position);
  }

  void comment() {
    const size_t end = source_.find("#}", at_ + 2);
    if (end == std::string::npos) fail(line_, "expected the end \"#}\" of a comment, got none");
    const char sign = end > at_ + 2 ? source_[end - 1] : ' ';
    go_to(end);
    close(2, sign == '-', sign == '+');
  }

  void tag_content() {
    const bool is_output = source_[at_ + 1] == '{';
    const std::string_view end = is_output ? "}}" : "%}";
    add(is_output ? Token::kOutputBegin : Token::kBlockBegin, "");
    at_ += 2;
    if (at_ < source_.size() && (source_[at_] == '-' || (!is_output && source_[at_] == '+'))) ++at_;
    const size_t first = tokens_.size();
    int depth = 0;  // of brackets: within them "}}" ends no tag
    while (true) {
      go_to(std::min(source_.find_first_not_of(kSpaces, at_), source_.size()));
      const std::string_view rest = std::string_view(source_).substr(at_);
      if (rest.empty()) fail(line_, fmt::format("expected the end \"{}\" of a tag, got none", end));
      const bool is_signed = rest[0] == '-' || (rest[0] == '+' && !is_output);
      if (depth == 0 && (rest.starts_with(end) || (is_signed && rest.substr(1).starts_with(end)))) {
        add(is_output ? Token::kOutputEnd : Token::kBlockEnd, "");
        // "+" keeps the line break that follows.
        close(is_signed ? 3 : 2, rest[0] == '-', is_output || rest[0] == '+');
        return;
      }
      depth += word(rest);
      if (tokens_.size() - first > kMostInTag) fail(line_, "expected a shorter tag");
    }
  }

  // Reads a token; by how much it goes deeper into brackets.
  int word(std::string_view rest) {
    const char c = rest[0];
    if (is_name_start(c) || is_digit(c)) {
      size_t length = 1;
      while (length < rest.size() && (is_name_start(rest[length]) || is_digit(rest[length]))) {
        ++length;
      }
      const std::string_view text = rest.substr(0, length);
      if (is_digit(c)) {
        const bool is_plain = std::all_of(text.begin(), text.end(), is_digit) && length <= 18;
        if (!is_plain ||
            (length + 1 < rest.size() && rest[length] == '.' && is_digit(rest[length + 1]))) {
          fail(line_, "numbers other than short whole ones are not supported");
        }
      }
      add(is_digit(c) ? Token::kInteger : Token::kName, std::string(text));
      at_ += length;
      return 0;
    }
    if (c == '\'' || c == '"') {
      string(rest);
      return 0;
    }
    for (const std::string_view op : kOperators) {
      if (!rest.starts_with(op)) continue;
      add(Token::kOperator, std::string(op));
      at_ += op.size();
      if (op == "(" || op == "[" || op == "{") return 1;
      return op == ")" || op == "]" || op == "}" ? -1 : 0;
    }
    fail(line_, fmt::format("expected an expression, got \"{}\"",
                            rest.substr(0, code_point_at(rest, 0).length)));
  }

  void string(std::string_view rest) {
    std::string text;
    size_t i = 1;
    for (; i < rest.size() && rest[i] != rest[0]; ++i) {
      if (rest[i] != '\\' || i + 1 == rest.size()) {
        text += rest[i];
        continue;
      }
      i += escape(rest.substr(i + 1), text);
    }
    if (i >= rest.size()) fail(line_, "expected the end of a string, got none");
    add(Token::kString, std::move(text));
    go_to(at_ + i + 1);
  }

  // Resolves what follows a backslash; how many bytes of it.
  size_t escape(std::string_view rest, std::string& text) const {
    constexpr std::string_view kNames = "ntrabfv\\'\"", kValues = "\n\t\r\a\b\f\v\\'\"";
    if (const size_t i = kNames.find(rest[0]); i != std::string_view::npos) {
      text += kValues[i];
      return 1;
    }
    if (rest[0] == '\n') return 1;
    if (rest[0] == 'N' || is_digit(rest[0]))
      fail(line_, "this escape in a string is not supported");
    const size_t digits = rest[0] == 'x' ? 2 : rest[0] == 'u' ? 4 : rest[0] == 'U' ? 8 : 0;
    if (digits == 0) {
      text += '\\';
      return 0;  // Python keeps an unknown escape as it is written
    }
    uint32_t value = 0;
    const std::string_view hex = rest.substr(1, digits);
    const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
    const bool is_whole =
        hex.size() == digits && end == hex.data() + digits && error == std::errc();
    if (!is_whole || value > 0x10FFFF || (0xD800 <= value && value < 0xE000)) {
      fail(line_, "expected the number of a character in an escape, got another");
    }
    append_utf8(text, value);
    return 1 + digits;
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace schmidt::text::jinja
