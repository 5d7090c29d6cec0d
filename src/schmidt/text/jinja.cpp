#include "schmidt/text/jinja.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <iomanip>
#include <sstream>

#include <fmt/format.h>

#include "schmidt/text/jinja_builtins.h"

namespace schmidt::text::jinja {
namespace {

// Far beyond any conversation's template, and seconds of work.
constexpr int64_t kMostSteps = 2'000'000;
constexpr int64_t kLongestRange = 100'000;
constexpr int kMostCalls = 50;

constexpr std::array<std::string_view, 4> kFunctions = {"raise_exception", "strftime_now",
                                                        "namespace", "range"};
// transformers knows them, this program does not.
constexpr std::array<std::string_view, 7> kUnknownTokens = {"unk_token",
                                                            "pad_token",
                                                            "sep_token",
                                                            "cls_token",
                                                            "mask_token",
                                                            "image_token",
                                                            "additional_special_tokens"};

template <typename Names>
bool is_one_of(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string written_date(const std::string& date, const std::string& format, int line) {
  std::tm day{};
  if (date.empty()) {
    const std::time_t now = std::time(nullptr);
    localtime_r(&now, &day);
  } else {
    std::istringstream in(date);
    in.imbue(std::locale::classic());
    in >> std::get_time(&day, "%d %b %Y");
    if (in.fail()) fail(line, fmt::format("expected a date as \"26 Jul 2024\", got \"{}\"", date));
    day.tm_isdst = -1;
    std::mktime(&day);
  }
  // Not std::put_time, which does not know the flags of "%-d" as Python and C do.
  std::vector<char> text(64 + 16 * format.size());
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &day));
  return {text.begin(), text.end()};
}

class Renderer {
 public:
  Renderer(Dict variables, const Surroundings& surroundings) : surroundings_(surroundings) {
    scopes_.push_back(std::move(variables));
  }

  std::string run(const std::vector<Statement>& statements) {
    execute(statements);
    return std::move(out_);
  }

 private:
  enum class Next { kOn, kBreak, kContinue };

  // Variables ------------------------------------------------------------------

  void set(const std::string& name, Value value) {
    Dict& scope = scopes_.back();
    const auto same = std::find_if(scope.begin(), scope.end(),
                                   [&](const auto& entry) { return entry.first == name; });
    if (same != scope.end()) {
      same->second = std::move(value);
    } else {
      scope.emplace_back(name, std::move(value));
    }
  }

  Value variable(const std::string& name, int line) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const Value* value = find(*scope, name)) return *value;
    }
    if (is_one_of(kFunctions, name)) return Function{name};
    if (is_one_of(kUnknownTokens, name) || name == "lipsum" || name == "cycler" ||
        name == "joiner" || name == "dict") {
      fail(line, fmt::format("the variable \"{}\" is not supported", name));
    }
    return Undefined{name};
  }

  // Statements -----------------------------------------------------------------

  void write(std::string_view text, int line) {
    if (out_.size() + text.size() > kMostBytes) {
      fail(line, fmt::format("expected at most {} bytes of text, got more", kMostBytes));
    }
    out_ += text;
  }

  void step(int line) {
    if (++steps_ > kMostSteps) fail(line, "expected a template that ends, got one that goes on");
  }

  Next execute(const std::vector<Statement>& statements) {
    for (const Statement& s : statements) {
      step(s.line);
      const Next next = execute(s);
      if (next != Next::kOn) return next;
    }
    return Next::kOn;
  }

  Next execute(const Statement& s) {
    switch (s.kind) {
      case Statement::kText:
        write(s.name, s.line);
        break;
      case Statement::kOutput:
        write(to_text(value(*s.value), s.line), s.line);
        break;
      case Statement::kIf:
        return execute(is_true(value(*s.value)) ? s.body : s.otherwise);
      case Statement::kFor:
        return loop(s);
      case Statement::kSet:
        set(s.targets[0], value(*s.value));
        break;
      case Statement::kSetMember:
        set_member(s);
        break;
      case Statement::kSetBlock:
        set(s.targets[0], text_of(s.body, {}));
        break;
      case Statement::kMacro:
        set(s.name, Function{s.name, &s});
        break;
      case Statement::kGeneration:
        return execute(s.body);
      case Statement::kBreak:
        return Next::kBreak;
      case Statement::kContinue:
        return Next::kContinue;
    }
    return Next::kOn;
  }

  // What `body` writes, in a scope of its own.
  std::string text_of(const std::vector<Statement>& body, Dict scope) {
    std::string outer = std::exchange(out_, {});
    scopes_.push_back(std::move(scope));
    execute(body);
    scopes_.pop_back();
    return std::exchange(out_, std::move(outer));
  }

  void set_member(const Statement& s) {
    const Value object = variable(s.name, s.line);
    const auto* space = object.get<Namespace>();
    if (space == nullptr) {
      fail(s.line, fmt::format("expected a namespace to set a member of, got {}", kind_of(object)));
    }
    Value member = value(*s.value);
    if (member.depth() > kMostDepth) fail(s.line, "a namespace in another is not supported");
    for (auto& [name, old] : *space->members) {
      if (name == s.targets[0]) {
        old = std::move(member);
        return;
      }
    }
    space->members->emplace_back(s.targets[0], std::move(member));
  }

  void bind(const Statement& s, const Value& item) {
    if (s.targets.size() == 1) return set(s.targets[0], item);
    const List parts = elements(item, s.line);
    if (parts.size() != s.targets.size()) {
      fail(s.line, fmt::format("expected {} values in each turn of the loop, got {}",
                               s.targets.size(), parts.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) set(s.targets[i], parts[i]);
  }

  Next loop(const Statement& s) {
    List items = elements(value(*s.value), s.line);
    if (s.filter) {
      std::erase_if(items, [&](const Value& item) {
        step(s.line);
        scopes_.emplace_back();
        bind(s, item);
        const bool stays = is_true(value(*s.filter));
        scopes_.pop_back();
        return !stays;
      });
    }
    if (items.empty()) return execute(s.otherwise);
    const auto count = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < count; ++i) {
      steps_ += 10;  // for the facts below
      step(s.line);
      Dict facts = {{"index", i + 1},        {"index0", i},
                    {"revindex", count - i}, {"revindex0", count - i - 1},
                    {"first", i == 0},       {"last", i + 1 == count},
                    {"length", count}};
      const auto at = static_cast<size_t>(i);
      facts.emplace_back("previtem", i > 0 ? items[at - 1] : Value(Undefined{"previtem"}));
      facts.emplace_back("nextitem", i + 1 < count ? items[at + 1] : Value(Undefined{"nextitem"}));
      scopes_.push_back({{"loop", std::move(facts)}});
      bind(s, items[at]);
      const Next next = execute(s.body);
      scopes_.pop_back();
      if (next == Next::kBreak) break;
    }
    return Next::kOn;
  }

  // Expressions ----------------------------------------------------------------

  Value value(const Expression& e) {
    step(e.line);
    const auto part = [&](size_t i) { return value(*e.parts[i]); };
    switch (e.kind) {
      case Expression::kConstant:
        return e.constant;
      case Expression::kName:
        return variable(e.name, e.line);
      case Expression::kList: {
        List items;
        for (const ExpressionPtr& p : e.parts) items.push_back(value(*p));
        return items;
      }
      case Expression::kDict:
        return dictionary(e);
      case Expression::kAttribute:
        return attribute(part(0), e);
      case Expression::kItem:
        return item(part(0), part(1), e.line);
      case Expression::kSlice:
        return slice(e);
      case Expression::kCall:
        return call(e);
      case Expression::kFilter:
        return apply_filter(e.name, part(0), arguments(e));
      case Expression::kTest:
        return apply_test(e.name, part(0), arguments(e));
      case Expression::kNot:
        return !is_true(part(0));
      case Expression::kNegative:
        return arithmetic(Value(int64_t{0}), "-", part(0), e.line);
      case Expression::kAnd: {
        Value left = part(0);
        return is_true(left) ? part(1) : left;
      }
      case Expression::kOr: {
        Value left = part(0);
        return is_true(left) ? left : part(1);
      }
      case Expression::kArithmetic: {
        const Value left = part(0);
        return arithmetic(left, e.name, part(1), e.line);
      }
      case Expression::kConcatenate: {
        std::string text;
        for (const ExpressionPtr& p : e.parts) text += to_text(value(*p), e.line);
        return bounded(std::move(text), e.line);
      }
      case Expression::kCompare: {
        const Value left = part(0);
        return compare(left, e.name, part(1), e.line);
      }
      case Expression::kConditional:
        if (is_true(part(1))) return part(0);
        return e.parts[2] ? part(2) : Value();
    }
    fail(e.line, "an expression of no kind");
  }

  static Value bounded(std::string text, int line) {
    if (text.size() > kMostBytes) fail(line, "expected a shorter text");
    return text;
  }

  Value dictionary(const Expression& e) {
    Dict dict;
    for (size_t i = 0; i < e.parts.size(); i += 2) {
      const Value key = value(*e.parts[i]);
      if (key.string() == nullptr) fail(e.line, "keys other than strings are not supported");
      Value member = value(*e.parts[i + 1]);
      if (find(dict, *key.string()) != nullptr) fail(e.line, "expected every key once");
      dict.emplace_back(*key.string(), std::move(member));
    }
    return dict;
  }

  Value attribute(const Value& object, const Expression& e) const {
    if (const auto* undefined = object.get<Undefined>()) {
      fail(e.line, fmt::format("expected a value with \"{}\", got the undefined \"{}\"", e.name,
                               undefined->name));
    }
    const Dict* dict = object.dict();
    if (const auto* space = object.get<Namespace>()) dict = space->members.get();
    if (const Value* found = dict != nullptr ? find(*dict, e.name) : nullptr) return *found;
    // These have members that are not modelled: nothing may seem absent that is there.
    const bool is_loop =
        e.parts[0]->kind == Expression::kName && e.parts[0]->name == "loop" && dict != nullptr;
    constexpr std::array<std::string_view, 8> kMethods = {"items", "keys",   "values", "get",
                                                          "pop",   "update", "copy",   "clear"};
    const bool is_method = dict != nullptr && is_one_of(kMethods, e.name);
    if (is_loop || is_method || object.string() != nullptr || object.list() != nullptr) {
      fail(e.line, fmt::format("the member \"{}\" of {} is not supported", e.name,
                               is_loop ? "a loop" : kind_of(object)));
    }
    return Undefined{e.name};
  }

  static Value item(const Value& object, const Value& index, int line) {
    if (const auto* undefined = object.get<Undefined>()) {
      fail(line, fmt::format("expected a value with elements, got the undefined \"{}\"",
                             undefined->name));
    }
    const Dict* dict = object.dict();
    if (const auto* space = object.get<Namespace>()) dict = space->members.get();
    if (dict != nullptr && index.string() != nullptr) {
      const Value* found = find(*dict, *index.string());
      return found != nullptr ? *found : Value(Undefined{*index.string()});
    }
    int64_t at = 0;
    if ((object.list() == nullptr && object.string() == nullptr) || !index.integer(at)) {
      return Undefined{"element"};
    }
    const List characters = object.list() == nullptr ? elements(object, line) : List{};
    const List& items = object.list() == nullptr ? characters : *object.list();
    const auto count = static_cast<int64_t>(items.size());
    if (at < -count || at >= count) return Undefined{"element"};
    return items[static_cast<size_t>(at < 0 ? at + count : at)];
  }

  // Python's slices: bounds beyond the ends are moved there.
  Value slice(const Expression& e) {
    const Value object = value(*e.parts[0]);
    if (object.list() == nullptr && object.string() == nullptr) {
      fail(e.line, fmt::format("expected a list or a string to cut, got {}", kind_of(object)));
    }
    const List items = elements(object, e.line);
    const auto count = static_cast<int64_t>(items.size());
    const auto bound = [&](size_t i, int64_t otherwise) {
      if (!e.parts[i]) return otherwise;
      const Value v = value(*e.parts[i]);
      int64_t number = otherwise;
      if (!v.is<None>() && !v.integer(number)) fail(e.line, "expected integers as bounds of a cut");
      return number;
    };
    const int64_t stride = bound(3, 1);
    if (stride != 1 && stride != -1) fail(e.line, "steps other than 1 and -1 are not supported");
    const int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? count : count - 1;
    const auto clipped = [&](size_t i, int64_t otherwise) {
      if (!e.parts[i]) return otherwise;
      const int64_t at = bound(i, otherwise);
      return std::clamp(at < 0 && at != otherwise ? at + count : at, low, high);
    };
    const int64_t begin = clipped(1, stride > 0 ? low : high);
    const int64_t end = clipped(2, stride > 0 ? high : low);
    List result;
    for (int64_t i = begin; stride > 0 ? i < end : i > end; i += stride) {
      result.push_back(items[static_cast<size_t>(i)]);
    }
    if (object.list() != nullptr) return result;
    std::string text;
    for (const Value& c : result) text += *c.string();
    return text;
  }

  Arguments arguments(const Expression& e) {
    Arguments result{.line = e.line};
    for (size_t i = 1; i < e.parts.size(); ++i) result.values.push_back(value(*e.parts[i]));
    for (const auto& [name, p] : e.named) result.named.emplace_back(name, value(*p));
    return result;
  }

  Value call(const Expression& e) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == Expression::kAttribute) {
      const Value object = value(*callee.parts[0]);
      return call_method(object, callee.name, arguments(e));
    }
    const Value function_value = value(callee);
    const auto* function = function_value.get<Function>();
    if (function == nullptr) {
      fail(e.line, fmt::format("expected a function to call, got {}", kind_of(function_value)));
    }
    const Arguments given = arguments(e);
    return function->macro != nullptr ? call_macro(*function->macro, given)
                                      : call_function(function->name, given);
  }

  Value call_function(const std::string& name, const Arguments& given) const {
    if (name == "namespace" && given.values.empty()) {
      const Value checked(Dict(given.named.begin(), given.named.end()));
      return Namespace{std::make_shared<Dict>(given.named.begin(), given.named.end())};
    }
    const bool has_one = given.values.size() == 1 && given.named.empty();
    const Value first = given.values.empty() ? Value() : given.values[0];
    if (name == "raise_exception" && has_one) {
      fail(given.line, fmt::format("the model's template refuses the conversation: {}",
                                   to_text(first, given.line)));
    }
    if (name == "strftime_now" && has_one && first.string() != nullptr) {
      return written_date(surroundings_.date, *first.string(), given.line);
    }
    if (name == "range" && given.named.empty()) return range(given);
    fail(given.line,
         fmt::format("the function \"{}\" with these arguments is not supported", name));
  }

  static Value range(const Arguments& given) {
    int64_t bounds[2] = {0, 0};
    const size_t count = given.values.size();
    bool is_plain = count == 1 || count == 2;
    for (size_t i = 0; is_plain && i < count; ++i) {
      is_plain = given.values[i].integer(bounds[count == 1 ? 1 : i]);
    }
    if (!is_plain || bounds[1] > kLongestRange || bounds[0] < -kLongestRange) {
      fail(given.line, "expected one or two integers of moderate size as a range");
    }
    List items;
    for (int64_t i = bounds[0]; i < bounds[1]; ++i) items.emplace_back(i);
    return items;
  }

  // A macro sees its arguments and what is set outside of every loop.
  Value call_macro(const Statement& macro, const Arguments& given) {
    if (given.values.size() > macro.targets.size()) fail(given.line, "expected fewer arguments");
    if (++calls_ > kMostCalls) fail(given.line, "expected macros that end, got endless calls");
    std::vector<Dict> outer = std::exchange(scopes_, {scopes_.front()});
    scopes_.emplace_back();
    for (size_t i = 0; i < macro.targets.size(); ++i) {
      Value bound = Undefined{macro.targets[i]};
      if (i < given.values.size()) {
        bound = given.values[i];
      } else if (const Value* named = find(given.named, macro.targets[i])) {
        bound = *named;
      } else if (macro.defaults[i]) {
        bound = value(*macro.defaults[i]);
      }
      set(macro.targets[i], std::move(bound));
    }
    for (const auto& [name, unused] : given.named) {
      if (!is_one_of(macro.targets, name)) fail(given.line, "expected the macro's own arguments");
    }
    std::string text = text_of(macro.body, {});
    scopes_ = std::move(outer);
    --calls_;
    return text;
  }

  static Value arithmetic(const Value& a, std::string_view op, const Value& b, int line) {
    if (op == "+" && a.string() != nullptr && b.string() != nullptr) {
      return bounded(*a.string() + *b.string(), line);
    }
    if (op == "+" && a.list() != nullptr && b.list() != nullptr) {
      List items = *a.list();
      items.insert(items.end(), b.list()->begin(), b.list()->end());
      return items;
    }
    int64_t x = 0, y = 0, result = 0;
    if (!a.integer(x) || !b.integer(y)) {
      fail(line, fmt::format("expected two strings, lists or integers on both sides of \"{}\", got "
                             "{} and {}",
                             op, kind_of(a), kind_of(b)));
    }
    bool overflows = false;
    if (op == "+") {
      overflows = __builtin_add_overflow(x, y, &result);
    } else if (op == "-") {
      overflows = __builtin_sub_overflow(x, y, &result);
    } else if (op == "*") {
      overflows = __builtin_mul_overflow(x, y, &result);
    } else if ((op == "//" || op == "%") && y > 0) {
      // Rounded down, as in Python.
      const bool is_below = x % y < 0;
      result = op == "%" ? x % y + (is_below ? y : 0) : x / y - (is_below ? 1 : 0);
    } else {
      fail(line, fmt::format("the operator \"{}\" with these values is not supported", op));
    }
    if (overflows) fail(line, "expected smaller integers");
    return result;
  }

  static bool compare(const Value& a, std::string_view op, const Value& b, int line) {
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "in") return contains(b, a, line);
    if (op == "not in") return !contains(b, a, line);
    return in_order(a, op, b, line);
  }

  const Surroundings& surroundings_;
  std::vector<Dict> scopes_;  // the template's own first, then those of loops and macros
  std::string out_;
  int64_t steps_ = 0;
  int calls_ = 0;
};

}  // namespace

std::string Template::render(Dict variables, const Surroundings& surroundings) const {
  return Renderer(std::move(variables), surroundings).run(statements_);
}

}  // namespace schmidt::text::jinja
