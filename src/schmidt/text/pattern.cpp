#include "schmidt/text/pattern.h"

#include <c10/util/Exception.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

std::variant<std::string, Regex> parse(const JsonView& json) {
  if (const auto literal = json.find("String")) {
    if (literal->string().empty()) literal->fail("expected a pattern, got an empty string");
    return literal->string();
  }
  const JsonView source = json.at("Regex");
  try {
    return Regex(source.string());
  } catch (const c10::ValueError& e) {
    source.fail(e.what_without_backtrace());
  }
}

}  // namespace

Pattern::Pattern(const JsonView& json)
    : matcher_(parse(json)), path_(json.path()), where_(json.where()) {}

std::vector<Span> Pattern::find_all(std::string_view text) const {
  if (const Regex* regex = std::get_if<Regex>(&matcher_)) {
    try {
      return regex->find_all(text);
    } catch (const c10::ValueError& e) {
      throw FormatError(path_, where_, e.what_without_backtrace());
    }
  }
  const std::string& literal = std::get<std::string>(matcher_);
  std::vector<Span> matches;
  for (size_t at = text.find(literal); at != std::string_view::npos;
       at = text.find(literal, at + literal.size())) {
    matches.push_back({at, at + literal.size()});
  }
  return matches;
}

std::string Pattern::replace_all(std::string_view text, std::string_view content) const {
  std::string result;
  size_t copied = 0;
  for (const Span& match : find_all(text)) {
    result += text.substr(copied, match.begin - copied);
    result += content;
    copied = match.end;
  }
  result += text.substr(copied);
  return result;
}

}  // namespace schmidt::text
