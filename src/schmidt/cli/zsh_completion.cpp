#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/shell_completion.h"

namespace schmidt::cli {
namespace {

constexpr const char* kModels = R"sh(
_schmidt_models() {
  local hub=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub
  hub=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$hub}}
  local -a ids
  ids=($hub/models--*--*(N/:t))
  ids=(${${ids#models--}/--//})
  _alternative 'files:model:_files' 'ids:model in the cache:compadd -a ids'
}
)sh";

/// `text` with what _arguments reads in a specification escaped; inside quotes.
std::string inside(const std::string& text) {
  const std::string out = quoted(text, "\\[]:");
  return out.substr(1, out.size() - 2);
}

/// ":message:action" of what takes a value.
std::string value(const OptionForm& option) {
  const auto spec = [&](const std::string& does) {
    return fmt::format(":{}:{}", inside(option.value_name), does);
  };
  switch (option.kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kChoice:
      return option.is_list ? spec(fmt::format("_values -s , {} {}", inside(option.value_name),
                                               fmt::join(option.choices, " ")))
                            : spec(fmt::format("({})", fmt::join(option.choices, " ")));
    case ValueKind::kFile:
    case ValueKind::kPath:
      return spec(option.is_list ? "_sequence _files" : "_files");
    case ValueKind::kFolder:
      return spec(option.is_list ? "_sequence _files -/" : "_files -/");
    case ValueKind::kModel:
      return spec("_schmidt_models");
    case ValueKind::kText:
      break;
  }
  return spec(" ");
}

std::string option_spec(const OptionForm& option) {
  // One value is written -o V, --out V or --out=V.
  const auto name = [&](const std::string& n) {
    return n + (!option.takes_value() ? "" : n.starts_with("--") ? "=" : "+");
  };
  const std::string rest = fmt::format("[{}]{}'", inside(option.help), value(option));
  if (option.repeats || option.names.size() == 1) {
    std::string specs;
    for (const std::string& n : option.names) {
      specs += fmt::format("{}'{}{}{}", specs.empty() ? "" : " \\\n      ",
                           option.repeats ? "*" : "", name(n), rest);
    }
    return specs;
  }
  std::vector<std::string> names;
  for (const std::string& n : option.names) names.push_back(name(n));
  return fmt::format("'({})'{{{}}}'{}", fmt::join(option.names, " "), fmt::join(names, ","), rest);
}

std::string argument_spec(const OptionForm& argument) {
  return fmt::format("'{}{}'",
                     argument.repeats       ? "*"
                     : argument.is_required ? ""
                                            : ":",
                     value(argument));
}

std::string arguments_command(const std::vector<OptionForm>& options,
                              const std::vector<OptionForm>& arguments) {
  std::string text = "_arguments -s";
  for (const OptionForm& option : options) text += " \\\n      " + option_spec(option);
  for (const OptionForm& argument : arguments) text += " \\\n      " + argument_spec(argument);
  return text;
}

}  // namespace

std::string zsh_completion(const CommandForm& command) {
  std::string text =
      "#compdef schmidt\n"
      "# Completion for zsh, printed by: schmidt completion zsh\n"
      "# In the shell at hand, after compinit: source <(schmidt completion zsh)\n"
      "# For every shell: as the file _schmidt in a folder of $fpath\n";
  text += kModels;
  text +=
      "\n_schmidt() {\n  local curcontext=$curcontext state line\n  typeset -A opt_args\n  "
      "_arguments -C";
  for (const OptionForm& option : command.options) text += " \\\n      " + option_spec(option);
  text +=
      " \\\n      '1:verb:->verb' '*::argument:->arguments'\n"
      "  case $state in\n  verb)\n    local -a verbs\n    verbs=(\n";
  for (const VerbForm& verb : command.verbs) {
    text += fmt::format("      {}\n", quoted(verb.name + ":" + verb.help));
  }
  text += "    )\n    _describe verb verbs\n    ;;\n  arguments)\n    case $words[1] in\n";
  for (const VerbForm& verb : command.verbs) {
    text += fmt::format("    {})\n      {}\n      ;;\n", verb.name,
                        arguments_command(verb.options, verb.arguments));
  }
  text +=
      "    esac\n    ;;\n  esac\n}\n\n"
      "if [[ ${funcstack[1]} == _schmidt ]]; then _schmidt \"$@\"; else compdef _schmidt schmidt; "
      "fi\n";
  return text;
}

}  // namespace schmidt::cli
