#include "schmidt/cli/recipe_schema.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include "schmidt/cli/options.h"
#include "schmidt/cli/stage_command.h"

namespace schmidt::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kNamePattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$";

const char* type_of(const OptionForm& option) {
  if (option.value_name == "INT" || option.value_name == "UINT") return "integer";
  if (option.value_name == "FLOAT") return "number";
  return "string";
}

/// A number where the type is one, and otherwise the text.
Json value_of(const std::string& text, std::string_view type) {
  if (type == "string") return text;
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return text;
  if (type == "integer") return static_cast<int64_t>(number);
  return number;
}

Json number_schema(const OptionForm& option, const char* type) {
  Json schema = {{"type", type}};
  if (option.limits == kPositive.get_description()) schema["exclusiveMinimum"] = 0;
  if (option.limits == kNonNegative.get_description()) schema["minimum"] = 0;
  if (const auto range = range_of(option)) {
    schema["minimum"] = value_of(range->first, type);
    schema["maximum"] = value_of(range->second, type);
  }
  return schema;
}

Json item_schema(const OptionForm& option) {
  const std::string_view type = type_of(option);
  if (!option.choices.empty() && !option.is_list) {
    Json choices = Json::array();
    for (const std::string& choice : option.choices) choices.push_back(value_of(choice, type));
    return {{"enum", choices}};
  }
  if (type != "string") return number_schema(option, type.data());
  // Names and sizes may look like numbers: 60000000, 1e6.
  return {{"type", {"string", "number"}}};
}

Json option_schema(const OptionForm& option) {
  Json schema = {{"description", option.help}};
  Json any = Json::array({{{"$ref", "#/$defs/variable"}}});
  if (!option.takes_value()) {
    any.push_back({{"type", "boolean"}});
  } else {
    const Json item = item_schema(option);
    any.push_back(item);
    if (option.is_list) any.push_back({{"type", "string"}});  // between commas
    if (option.is_list || option.repeats) {
      any.push_back({{"type", "array"},
                     {"minItems", 1},
                     {"items", {{"anyOf", Json::array({item, {{"$ref", "#/$defs/variable"}}})}}}});
    }
  }
  schema["anyOf"] = std::move(any);
  if (!option.default_value.empty() && !option.is_list) {
    schema["default"] = value_of(option.default_value, type_of(option));
  }
  return schema;
}

Json verb_schema(const VerbForm& verb) {
  Json options = Json::object(), required = Json::array();
  const auto add = [&](const OptionForm& option) {
    if (is_given_by_run(option)) return;
    options[recipe_name(option)] = option_schema(option);
    if (option.is_required) required.push_back(recipe_name(option));
  };
  for (const OptionForm& argument : verb.arguments) add(argument);
  for (const OptionForm& option : verb.options) add(option);
  return {{"description", verb.help},
          {"type", "object"},
          {"properties", options},
          {"required", required},
          {"additionalProperties", false}};
}

}  // namespace

nlohmann::ordered_json recipe_schema(const CommandForm& program) {
  Json stage = {
      {"type", "object"},
      {"properties",
       {{"name",
         {{"description", "Name of the result in the run's folder, by which later stages read it"},
          {"type", "string"},
          {"pattern", kNamePattern}}},
        {"if",
         {{"description", "The stage is left out where this is false or an empty list"},
          {"anyOf",
           Json::array(
               {{{"type", "boolean"}}, {{"type", "array"}}, {{"$ref", "#/$defs/variable"}}})}}},
        {"launcher",
         {{"description",
           "What starts the stage, mpirun -n 4, where ranks share its work; an empty list starts "
           "it as it is"},
          {"anyOf", Json::array({{{"type", "string"}},
                                 {{"type", "array"}, {"items", {{"type", "string"}}}}})}}}}},
      {"required", {"name"}},
      {"additionalProperties", false}};
  Json defs = {{"variable",
                {{"description", "${name}: the value of a variable"},
                 {"type", "string"},
                 {"pattern", "\\$\\{[^}]+\\}"}}}};
  for (const StageVerb& known : stage_verbs()) {
    const auto verb = std::ranges::find(program.verbs, known.name, &VerbForm::name);
    defs[known.name] = verb_schema(*verb);
    stage["properties"][known.name] = {{"$ref", "#/$defs/" + verb->name}};
    stage["oneOf"].push_back({{"required", {known.name}}});
  }
  const Json scalar = {{"type", {"string", "number", "boolean"}}};
  return {
      {"$schema", "https://json-schema.org/draft/2020-12/schema"},
      {"title", "A recipe of schmidt run"},
      {"type", "object"},
      {"properties",
       {{"variables",
         {{"description",
           "Values that ${name} stands for; --set name=VALUE replaces them, and null asks for "
           "it. ${out} is the run's folder."},
          {"type", "object"},
          {"propertyNames", {{"pattern", kNamePattern}}},
          {"additionalProperties",
           {{"anyOf",
             Json::array({scalar, {{"type", "null"}}, {{"type", "array"}, {"items", scalar}}})}}}}},
        {"stages",
         {{"description", "What is done, in this order"},
          {"type", "array"},
          {"minItems", 1},
          {"items", stage}}}}},
      {"required", {"stages"}},
      {"additionalProperties", false},
      {"$defs", defs}};
}

}  // namespace schmidt::cli
