#include "schmidt/text/jinja_parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include <fmt/format.h>

#include "schmidt/text/jinja_lexer.h"

namespace schmidt::text::jinja {
namespace {

// Nested expressions and statements; no template comes near.
constexpr int kMaxDepth = 100;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(lex(source)) {}

  std::vector<Statement> run() {
    std::vector<Statement> all = statements({});
    if (!is(Token::kEnd)) fail(line(), "expected the end of the template, got another tag");
    return all;
  }

 private:
  // Tokens ---------------------------------------------------------------------

  const Token& now() const { return tokens_[at_]; }
  int line() const { return now().line; }
  bool is(Token::Kind kind) const { return now().kind == kind; }
  bool is(Token::Kind kind, std::string_view text) const { return is(kind) && now().text == text; }
  bool is_operator(std::string_view text) const { return is(Token::kOperator, text); }
  bool is_name(std::string_view text) const { return is(Token::kName, text); }

  std::string take() {
    std::string text = now().text;
    if (!is(Token::kEnd)) ++at_;
    return text;
  }
  bool accept(Token::Kind kind, std::string_view text) { return is(kind, text) && (take(), true); }
  bool accept_operator(std::string_view text) { return accept(Token::kOperator, text); }
  bool accept_name(std::string_view text) { return accept(Token::kName, text); }

  void expect(Token::Kind kind, std::string_view text, std::string_view what) {
    if (!accept(kind, text)) fail(line(), fmt::format("expected {}, got \"{}\"", what, now().text));
  }
  void expect_operator(std::string_view text) {
    expect(Token::kOperator, text, fmt::format("\"{}\"", text));
  }
  void expect_block_end() { expect(Token::kBlockEnd, "", "the end of the tag"); }
  std::string expect_name() {
    if (!is(Token::kName)) fail(line(), fmt::format("expected a name, got \"{}\"", now().text));
    return take();
  }

  // Counts how deep the parser is, so that no template exhausts the stack.
  struct Depth {
    explicit Depth(Parser& of) : parser(of) {
      if (++parser.depth_ > kMaxDepth) fail(parser.line(), "expected fewer nested expressions");
    }
    ~Depth() { --parser.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    Parser& parser;
  };

  // Statements -----------------------------------------------------------------

  // Up to a tag of one of `ends`, whose name is the next token, or the end of the template.
  std::vector<Statement> statements(std::initializer_list<std::string_view> ends) {
    const Depth depth(*this);
    std::vector<Statement> all;
    while (!is(Token::kEnd)) {
      const int line_begin = line();
      if (is(Token::kText)) {
        all.push_back({.kind = Statement::kText, .line = line_begin, .name = take()});
      } else if (accept(Token::kOutputBegin, "")) {
        all.push_back({.kind = Statement::kOutput, .line = line_begin, .value = tuple()});
        expect(Token::kOutputEnd, "", "the end of the tag");
      } else {
        take();  // the beginning of a block tag
        if (std::find(ends.begin(), ends.end(), now().text) != ends.end() && is(Token::kName)) {
          return all;
        }
        all.push_back(statement());
      }
    }
    if (ends.size() > 0) {
      fail(line(), fmt::format("expected \"{}\", got the end of the template", *ends.begin()));
    }
    return all;
  }

  Statement statement() {
    const int begin = line();
    const std::string tag = expect_name();
    Statement result;
    if (tag == "if") {
      result = if_tag();
    } else if (tag == "for") {
      result = for_tag();
    } else if (tag == "set") {
      result = set_tag();
    } else if (tag == "macro") {
      result = macro_tag();
    } else if (tag == "generation") {
      result.kind = Statement::kGeneration;
      expect_block_end();
      result.body = statements({"endgeneration"});
      take();
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail(begin, fmt::format("expected \"{}\" in a loop", tag));
      result.kind = tag == "break" ? Statement::kBreak : Statement::kContinue;
    } else {
      fail(begin, fmt::format("the tag \"{}\" is not supported", tag));
    }
    result.line = begin;
    expect_block_end();
    return result;
  }

  Statement if_tag() {
    Statement result{.kind = Statement::kIf, .line = line(), .value = tuple()};
    expect_block_end();
    result.body = statements({"endif", "else", "elif"});
    if (accept_name("elif")) {
      const Depth depth(*this);
      result.otherwise.push_back(if_tag());
      return result;
    }
    if (accept_name("else")) {
      expect_block_end();
      result.otherwise = statements({"endif"});
    }
    take();
    return result;
  }

  Statement for_tag() {
    Statement result{.kind = Statement::kFor, .line = line()};
    do {
      result.targets.push_back(expect_name());
    } while (accept_operator(","));
    expect(Token::kName, "in", "\"in\"");
    result.value = is_list_of([&] { return conditional(false); });
    if (accept_name("if")) result.filter = expression();
    if (is_name("recursive")) fail(line(), "recursive loops are not supported");
    expect_block_end();
    ++loops_;
    result.body = statements({"endfor", "else"});
    --loops_;
    if (accept_name("else")) {
      expect_block_end();
      result.otherwise = statements({"endfor"});
    }
    take();
    return result;
  }

  Statement set_tag() {
    Statement result{.kind = Statement::kSet, .line = line()};
    result.targets.push_back(expect_name());
    if (accept_operator(".")) {
      result.kind = Statement::kSetMember;
      result.name = std::exchange(result.targets[0], expect_name());
    }
    if (is_operator(",") || is_operator("|")) {
      fail(line(), "\"set\" of several names or with a filter is not supported");
    }
    if (accept_operator("=")) {
      result.value = tuple();
      return result;
    }
    if (result.kind == Statement::kSetMember) fail(line(), "expected \"=\" behind a member");
    expect_block_end();
    result.kind = Statement::kSetBlock;
    result.body = statements({"endset"});
    take();
    return result;
  }

  Statement macro_tag() {
    if (loops_ > 0) fail(line(), "macros in loops are not supported");
    Statement result{.kind = Statement::kMacro, .line = line(), .name = expect_name()};
    expect_operator("(");
    while (!accept_operator(")")) {
      result.targets.push_back(expect_name());
      result.defaults.push_back(accept_operator("=") ? expression() : nullptr);
      if (!is_operator(")")) expect_operator(",");
    }
    expect_block_end();
    result.body = statements({"endmacro"});
    take();
    return result;
  }

  // Expressions, from the loosest binding to the tightest -------------------------

  ExpressionPtr node(Expression::Kind kind, int line, std::string name = {}, ExpressionPtr a = {},
                     ExpressionPtr b = {}) {
    Expression result{.kind = kind, .line = line, .name = std::move(name)};
    if (a) result.parts.push_back(std::move(a));
    if (b) result.parts.push_back(std::move(b));
    return std::make_unique<const Expression>(std::move(result));
  }

  ExpressionPtr constant(int line, Value value) {
    return std::make_unique<const Expression>(
        Expression{.kind = Expression::kConstant, .line = line, .constant = std::move(value)});
  }

  // One expression, or several with commas between them as a list.
  template <typename Next>
  ExpressionPtr is_list_of(const Next& next) {
    const int begin = line();
    ExpressionPtr first = next();
    if (!is_operator(",")) return first;
    Expression list{.kind = Expression::kList, .line = begin};
    list.parts.push_back(std::move(first));
    while (accept_operator(",")) {
      if (is(Token::kOutputEnd) || is(Token::kBlockEnd) || is_operator(")")) break;
      list.parts.push_back(next());
    }
    return std::make_unique<const Expression>(std::move(list));
  }

  ExpressionPtr tuple() {
    return is_list_of([&] { return expression(); });
  }

  ExpressionPtr expression() { return conditional(true); }

  ExpressionPtr conditional(bool with_if) {
    const Depth depth(*this);
    ExpressionPtr value = disjunction();
    while (with_if && is_name("if")) {
      Expression result{.kind = Expression::kConditional, .line = line()};
      take();
      result.parts.push_back(std::move(value));
      result.parts.push_back(disjunction());
      result.parts.push_back(accept_name("else") ? expression() : nullptr);
      value = std::make_unique<const Expression>(std::move(result));
    }
    return value;
  }

  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    while (is_name("or")) {
      const int begin = line();
      take();
      left = node(Expression::kOr, begin, {}, std::move(left), conjunction());
    }
    return left;
  }

  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    while (is_name("and")) {
      const int begin = line();
      take();
      left = node(Expression::kAnd, begin, {}, std::move(left), negation());
    }
    return left;
  }

  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Depth depth(*this);
    const int begin = line();
    take();
    return node(Expression::kNot, begin, {}, negation());
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    bool is_first = true;
    while (true) {
      const int begin = line();
      std::string op;
      constexpr std::array<std::string_view, 6> kSigns = {"==", "!=", "<", "<=", ">", ">="};
      if (is(Token::kOperator) &&
          std::find(kSigns.begin(), kSigns.end(), now().text) != kSigns.end()) {
        op = take();
      } else if (accept_name("in")) {
        op = "in";
      } else if (is_name("not") && tokens_[at_ + 1].kind == Token::kName &&
                 tokens_[at_ + 1].text == "in") {
        take(), take();
        op = "not in";
      } else {
        return left;
      }
      if (!std::exchange(is_first, false)) fail(begin, "chains of comparisons are not supported");
      left = node(Expression::kCompare, begin, op, std::move(left), sum());
    }
  }

  ExpressionPtr sum() {
    ExpressionPtr left = concatenation();
    while (is_operator("+") || is_operator("-")) {
      const int begin = line();
      std::string op = take();
      left = node(Expression::kArithmetic, begin, std::move(op), std::move(left), concatenation());
    }
    return left;
  }

  ExpressionPtr concatenation() {
    const int begin = line();
    ExpressionPtr first = product();
    if (!is_operator("~")) return first;
    Expression all{.kind = Expression::kConcatenate, .line = begin};
    all.parts.push_back(std::move(first));
    while (accept_operator("~")) all.parts.push_back(product());
    return std::make_unique<const Expression>(std::move(all));
  }

  ExpressionPtr product() {
    ExpressionPtr left = unary(true);
    while (is_operator("*") || is_operator("//") || is_operator("%") || is_operator("/") ||
           is_operator("**")) {
      const int begin = line();
      std::string op = take();
      left = node(Expression::kArithmetic, begin, std::move(op), std::move(left), unary(true));
    }
    return left;
  }

  ExpressionPtr unary(bool with_filters) {
    const Depth depth(*this);
    const int begin = line();
    ExpressionPtr value;
    if (accept_operator("-")) {
      value = node(Expression::kNegative, begin, {}, unary(false));
    } else if (is_operator("+")) {
      fail(begin, "the sign \"+\" is not supported");
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    return with_filters ? filters(std::move(value)) : std::move(value);
  }

  ExpressionPtr primary() {
    const int begin = line();
    if (is(Token::kString)) {
      std::string text;
      while (is(Token::kString)) text += take();
      return constant(begin, std::move(text));
    }
    if (is(Token::kInteger)) return constant(begin, int64_t{std::stoll(take())});
    if (is(Token::kName)) {
      const std::string name = take();
      if (name == "true" || name == "True") return constant(begin, true);
      if (name == "false" || name == "False") return constant(begin, false);
      if (name == "none" || name == "None") return constant(begin, None{});
      return node(Expression::kName, begin, name);
    }
    if (accept_operator("(")) {
      if (accept_operator(")")) return constant(begin, List{});
      ExpressionPtr inner = tuple();
      expect_operator(")");
      return inner;
    }
    const bool is_list = is_operator("[");
    if (!is_list && !is_operator("{")) {
      fail(begin, fmt::format("expected an expression, got \"{}\"", now().text));
    }
    take();
    const std::string_view end = is_list ? "]" : "}";
    Expression result{.kind = is_list ? Expression::kList : Expression::kDict, .line = begin};
    while (!accept_operator(end)) {
      result.parts.push_back(expression());
      if (!is_list) {
        expect_operator(":");
        result.parts.push_back(expression());
      }
      if (!is_operator(end)) expect_operator(",");
    }
    return std::make_unique<const Expression>(std::move(result));
  }

  ExpressionPtr postfix(ExpressionPtr value) {
    while (true) {
      const int begin = line();
      if (accept_operator(".")) {
        if (is(Token::kInteger)) {
          value = node(Expression::kItem, begin, {}, std::move(value),
                       constant(begin, int64_t{std::stoll(take())}));
        } else {
          value = node(Expression::kAttribute, begin, expect_name(), std::move(value));
        }
      } else if (accept_operator("[")) {
        value = subscript(begin, std::move(value));
      } else if (is_operator("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPtr subscript(int begin, ExpressionPtr value) {
    Expression result{.kind = Expression::kItem, .line = begin};
    result.parts.push_back(std::move(value));
    const auto bound = [&] {
      return is_operator(":") || is_operator("]") ? nullptr : expression();
    };
    result.parts.push_back(bound());
    while (accept_operator(":")) {
      result.kind = Expression::kSlice;
      result.parts.push_back(bound());
    }
    expect_operator("]");
    const bool is_whole =
        result.kind == Expression::kSlice ? result.parts.size() <= 4 : result.parts[1] != nullptr;
    if (!is_whole) fail(begin, "expected an index or a slice");
    if (result.kind == Expression::kSlice) result.parts.resize(4);
    return std::make_unique<const Expression>(std::move(result));
  }

  void arguments(Expression& call) {
    expect_operator("(");
    while (!accept_operator(")")) {
      if (is_operator("*") || is_operator("**"))
        fail(line(), "unpacked arguments are not supported");
      const bool is_named = is(Token::kName) && tokens_[at_ + 1].kind == Token::kOperator &&
                            tokens_[at_ + 1].text == "=";
      if (is_named) {
        std::string name = take();
        take();
        call.named.emplace_back(std::move(name), expression());
      } else {
        call.parts.push_back(expression());
      }
      if (!is_operator(")")) expect_operator(",");
    }
  }

  ExpressionPtr call(ExpressionPtr callee) {
    Expression result{.kind = Expression::kCall, .line = line()};
    result.parts.push_back(std::move(callee));
    arguments(result);
    return std::make_unique<const Expression>(std::move(result));
  }

  ExpressionPtr filters(ExpressionPtr value) {
    while (true) {
      const int begin = line();
      if (accept_operator("|")) {
        Expression filter{.kind = Expression::kFilter, .line = begin, .name = expect_name()};
        filter.parts.push_back(std::move(value));
        if (is_operator("(")) arguments(filter);
        value = std::make_unique<const Expression>(std::move(filter));
      } else if (accept_name("is")) {
        const bool is_negated = accept_name("not");
        value = test(begin, std::move(value));
        if (is_negated) value = node(Expression::kNot, begin, {}, std::move(value));
      } else if (is_operator("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPtr test(int begin, ExpressionPtr value) {
    Expression result{.kind = Expression::kTest, .line = begin};
    result.name = is_operator("==") || is_operator("!=") ? take() : expect_name();
    result.parts.push_back(std::move(value));
    const bool is_word = is(Token::kName) && !is_name("else") && !is_name("or") &&
                         !is_name("and") && !is_name("if") && !is_name("is") && !is_name("in") &&
                         !is_name("not");
    if (is_operator("(")) {
      arguments(result);
    } else if (is_word || is(Token::kString) || is(Token::kInteger) || is_operator("[") ||
               is_operator("{")) {
      result.parts.push_back(postfix(primary()));
    }
    return std::make_unique<const Expression>(std::move(result));
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

std::vector<Statement> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace schmidt::text::jinja
