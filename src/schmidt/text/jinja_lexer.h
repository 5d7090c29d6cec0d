#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::text::jinja {

struct Token {
  enum Kind {
    kText,        ///< what stands outside of tags
    kBlockBegin,  ///< {%
    kBlockEnd,
    kOutputBegin,  ///< {{
    kOutputEnd,
    kName,
    kString,    ///< its characters, escapes resolved
    kInteger,   ///< its digits
    kOperator,  ///< one or two signs
    kEnd
  } kind;
  std::string text;
  int line = 1;  ///< of the template, from 1
};

/// A template as tokens, the last of them kEnd. Comments are left out; spaces beside tags
/// are as transformers sets Jinja up: trim_blocks, lstrip_blocks, no last line break.
/// Throws c10::ValueError for what is no template or not of this subset.
/// Source: jinja2 3.1, lexer.py.
std::vector<Token> lex(std::string_view source);

}  // namespace schmidt::text::jinja
