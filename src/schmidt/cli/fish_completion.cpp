#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/shell_completion.h"

namespace schmidt::cli {
namespace {

constexpr const char* kHelpers = R"sh(
function __schmidt_without_verb
    test (count (commandline -opc)) -eq 1
end

function __schmidt_verb_is
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end

# Values between commas: the words given, behind those that are there already.
function __schmidt_list
    set -l done (commandline -ct | string replace -r '^--[^=]*=' '' | string replace -rf '^(.*,)[^,]*$' '$1')
    printf '%s\n' "$done"$argv
end

function __schmidt_models
    set -l hub ~/.cache/huggingface/hub
    test -n "$XDG_CACHE_HOME"; and set hub $XDG_CACHE_HOME/huggingface/hub
    test -n "$HF_HOME"; and set hub $HF_HOME/hub
    test -n "$HUGGINGFACE_HUB_CACHE"; and set hub $HUGGINGFACE_HUB_CACHE
    test -n "$HF_HUB_CACHE"; and set hub $HF_HUB_CACHE
    for folder in $hub/models--*--*/
        string replace -r '^.*/models--(.*?)--(.*)/$' '$1/$2' -- $folder
    end
end

complete -c schmidt -f
)sh";

/// In single quotes, in which fish reads backslashes.
std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

/// What `complete` is told of a value.
std::string value(const OptionForm& option) {
  const std::string choices = fmt::format("{}", fmt::join(option.choices, " "));
  switch (option.kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kChoice:
      return " -x -a " + fish_quoted(option.is_list ? "(__schmidt_list " + choices + ")" : choices);
    case ValueKind::kFile:
    case ValueKind::kPath:
      return " -r -F";
    case ValueKind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case ValueKind::kModel:
      return " -r -F -a '(__schmidt_models)'";
    case ValueKind::kText:
      break;
  }
  return " -x";
}

std::string option_line(const std::string& condition, const OptionForm& option) {
  std::string names;
  for (const std::string& name : option.names) {
    names += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  }
  return fmt::format("complete -c schmidt -n {}{}{} -d {}\n", condition, names, value(option),
                     fish_quoted(option.help));
}

/// Of an argument by its place: files, folders, ids, choices.
std::string argument_line(const std::string& condition, const OptionForm& argument) {
  const std::string what = value(argument);
  if (argument.kind == ValueKind::kText) return "";
  // There is no option here that would require it (-r), nor be alone (-x).
  const size_t words = what.find(" -a ");
  const bool files = what.find(" -F") != std::string::npos;
  return fmt::format("complete -c schmidt -n {}{}{}\n", condition, files ? " -F" : "",
                     words == std::string::npos ? "" : what.substr(words));
}

}  // namespace

std::string fish_completion(const CommandForm& command) {
  std::string text =
      "# Completion for fish, printed by: schmidt completion fish\n"
      "# In the shell at hand: schmidt completion fish | source\n";
  text += kHelpers;
  for (const OptionForm& option : command.options) {
    text += option_line("__schmidt_without_verb", option);
  }
  for (const VerbForm& verb : command.verbs) {
    text += fmt::format("\ncomplete -c schmidt -n __schmidt_without_verb -a {} -d {}\n", verb.name,
                        fish_quoted(verb.help));
    const std::string condition = fish_quoted("__schmidt_verb_is " + verb.name);
    for (const OptionForm& argument : verb.arguments) text += argument_line(condition, argument);
    for (const OptionForm& option : verb.options) text += option_line(condition, option);
  }
  return text;
}

}  // namespace schmidt::cli
