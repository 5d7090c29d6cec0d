#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "schmidt/text/jinja_value.h"

namespace schmidt::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum Kind {
    kConstant,     ///< `constant`
    kName,         ///< the variable `name`
    kList,         ///< of `parts`; a tuple, too
    kDict,         ///< of `parts`, key and value in turn
    kAttribute,    ///< parts[0].name
    kItem,         ///< parts[0][parts[1]]
    kSlice,        ///< parts[0][parts[1]:parts[2]:parts[3]], null where left out
    kCall,         ///< parts[0](parts[1], .., named..)
    kFilter,       ///< parts[0] | name(parts[1], .., named..)
    kTest,         ///< parts[0] is name(parts[1], ..)
    kNot,          ///< not parts[0]
    kNegative,     ///< -parts[0]
    kAnd,          ///< parts[0] and parts[1]
    kOr,           ///< parts[0] or parts[1]
    kArithmetic,   ///< parts[0] name parts[1]: + - * // %
    kConcatenate,  ///< the text of all parts: ~
    kCompare,      ///< parts[0] name parts[1]: == != < <= > >= in, "not in"
    kConditional   ///< parts[0] if parts[1] else parts[2], which may be null
  } kind;
  int line = 1;
  std::string name = {};
  Value constant = {};
  std::vector<ExpressionPtr> parts = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
};

struct Statement {
  enum Kind {
    kText,        ///< `name` as it stands
    kOutput,      ///< {{ value }}
    kIf,          ///< value; body, otherwise
    kFor,         ///< targets in value, those where `filter` is true; body, otherwise
    kSet,         ///< target = value
    kSetMember,   ///< name.target = value, of a namespace
    kSetBlock,    ///< target = what body writes
    kMacro,       ///< name(targets = defaults): body
    kGeneration,  ///< body, which transformers marks as the model's
    kBreak,       ///< of the innermost loop
    kContinue
  } kind;
  int line = 1;
  std::string name = {};
  std::vector<std::string> targets = {};
  std::vector<ExpressionPtr> defaults = {};  ///< one for each target of a macro, or null
  ExpressionPtr value = {}, filter = {};
  std::vector<Statement> body = {}, otherwise = {};
};

/// A template as a tree. Throws c10::ValueError naming the line of what is no template or
/// not of this subset. Source: jinja2 3.1, parser.py.
std::vector<Statement> parse(std::string_view source);

}  // namespace schmidt::text::jinja
