#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schmidt/text/jinja_parser.h"

namespace schmidt::text::jinja {

/// What a template may ask for besides its variables.
struct Surroundings {
  /// strftime_now writes this day, as "26 Jul 2024"; empty: the day of the call.
  std::string date;
};

/// A template, parsed once and rendered as transformers' apply_chat_template does.
///
/// It knows the statements if, for, set, macro and generation, expressions without fractions,
/// and the filters, tests and methods of jinja_builtins.h. What lies beyond throws where it is
/// reached, so that a branch for tools costs nothing in a conversation without any.
class Template {
 public:
  /// Throws c10::ValueError, as `render` does, in one line with the template's line.
  explicit Template(std::string_view source) : statements_(parse(source)) {}

  /// Throws c10::ValueError also where the template itself does, with its own words.
  std::string render(Dict variables, const Surroundings& surroundings) const;

 private:
  std::vector<Statement> statements_;
};

}  // namespace schmidt::text::jinja
