#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "schmidt/text/jinja_value.h"

/// Filters, tests and methods: those that chat templates use, as Jinja and Python have them.
/// Each throws c10::ValueError for a name or arguments that are not supported, so that a text
/// is the template's or none.
namespace schmidt::text::jinja {

struct Arguments {
  List values = {};
  std::vector<std::pair<std::string, Value>> named = {};
  int line = 1;  ///< of the template
};

/// value | name(arguments)
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);

/// value is name(arguments)
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments);

/// object.name(arguments), of strings and dictionaries.
Value call_method(const Value& object, std::string_view name, const Arguments& arguments);

/// Whether needle is an element, a key or a part of `whole`.
bool contains(const Value& whole, const Value& needle, int line);

/// Whether a op b, which is one of < <= > >=.
bool in_order(const Value& a, std::string_view op, const Value& b, int line);

}  // namespace schmidt::text::jinja
