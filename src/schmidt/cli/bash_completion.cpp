#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/shell_completion.h"

namespace schmidt::cli {
namespace {

// Bash 3.2 runs it too: no mapfile, and compopt (of 4) may be missing.
constexpr const char* kHelpers = R"sh(
# Of the words in $1 those that the word at hand begins, behind what of it is finished ($2).
_schmidt_words() {
  local word
  for word in $1; do
    if [[ $word == "${cur#"$2"}"* ]]; then COMPREPLY+=("$2$word"); fi
  done
}

# Values between commas: $1 are the words that they may be.
_schmidt_word_list() {
  local done=
  if [[ $cur == *,* ]]; then done=${cur%,*},; fi
  _schmidt_words "$1" "$done"
}

# $1 is -f for files and folders, -d for folders.
_schmidt_paths() {
  local name
  compopt -o filenames 2>/dev/null
  while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen "$1" -- "$cur")
}

_schmidt_path_list() {
  local done= name
  if [[ $cur == *,* ]]; then done=${cur%,*},; fi
  compopt -o filenames 2>/dev/null
  while IFS= read -r name; do
    if [[ -n $done && -d $name ]]; then name+=/; compopt -o nospace 2>/dev/null; fi
    COMPREPLY+=("$done$name")
  done < <(compgen "$1" -- "${cur#"$done"}")
}

# Paths, and the models of Hugging Face's cache.
_schmidt_models() {
  local hub=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub folder id
  hub=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$hub}}
  _schmidt_paths -f
  for folder in "$hub"/models--*--*/; do
    id=${folder%/}
    id=${id##*/models--}
    id=${id/--//}
    if [[ -d $folder && $id == "$cur"* ]]; then COMPREPLY+=("$id"); fi
  done
}

_schmidt() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} options= valued= i arguments=0
  COMPREPLY=()
  # --option=value is three words here.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = && $COMP_CWORD -gt 2 ]]; then
    prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
)sh";

constexpr const char* kCount = R"sh(
  for ((i = 2; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      =) ((++i)) ;;
      -*) if [[ " $valued " == *" ${COMP_WORDS[i]} "* && ${COMP_WORDS[i+1]} != = ]]; then ((++i)); fi ;;
      *) ((++arguments)) ;;
    esac
  done
  if [[ $cur == -* ]]; then
    _schmidt_words "$options"
    return
  fi
)sh";

std::string words(const std::vector<std::string>& list) {
  return quoted(fmt::format("{}", fmt::join(list, " ")));
}

/// The command that completes the value of an option; empty where a shell cannot.
std::string action(const OptionForm& option) {
  switch (option.kind) {
    case ValueKind::kChoice:
      return (option.is_list ? "_schmidt_word_list " : "_schmidt_words ") + words(option.choices);
    case ValueKind::kFile:
    case ValueKind::kPath:
      return option.is_list ? "_schmidt_path_list -f" : "_schmidt_paths -f";
    case ValueKind::kFolder:
      return option.is_list ? "_schmidt_path_list -d" : "_schmidt_paths -d";
    case ValueKind::kModel:
      return "_schmidt_models";
    case ValueKind::kNone:
    case ValueKind::kText:
      break;
  }
  return "";
}

std::vector<std::string> names_of(const std::vector<OptionForm>& options, bool valued_alone) {
  std::vector<std::string> names;
  for (const OptionForm& option : options) {
    if (!valued_alone || option.takes_value()) {
      names.insert(names.end(), option.names.begin(), option.names.end());
    }
  }
  return names;
}

std::string verb_case(const VerbForm& verb) {
  std::string text =
      fmt::format("    {})\n      options={}\n", verb.name, words(names_of(verb.options, false)));
  const auto valued = names_of(verb.options, true);
  if (valued.empty()) return text + "      ;;\n";
  text += fmt::format("      valued={}\n      case $prev in\n", words(valued));
  std::map<std::string, std::vector<std::string>> names_by_action;
  for (const OptionForm& option : verb.options) {
    if (!option.takes_value()) continue;
    auto& names = names_by_action[action(option)];
    names.insert(names.end(), option.names.begin(), option.names.end());
  }
  for (const auto& [does, names] : names_by_action) {
    text += fmt::format("        {}) {}return ;;\n", fmt::join(names, " | "),
                        does.empty() ? "" : does + "; ");
  }
  return text + "      esac\n      ;;\n";
}

std::string argument_case(const VerbForm& verb) {
  std::string text;
  for (size_t i = 0; i < verb.arguments.size(); ++i) {
    const OptionForm& argument = verb.arguments[i];
    const std::string does = action(argument);
    text += fmt::format("    {}) {}return ;;\n",
                        argument.repeats ? verb.name + ".*" : fmt::format("{}.{}", verb.name, i),
                        does.empty() ? "" : does + "; ");
  }
  return text;
}

}  // namespace

std::string bash_completion(const CommandForm& command) {
  std::string text =
      "# Completion for bash, printed by: schmidt completion bash\n"
      "# In the shell at hand: source <(schmidt completion bash)\n";
  text += kHelpers;
  std::vector<std::string> verbs;
  for (const VerbForm& verb : command.verbs) verbs.push_back(verb.name);
  text += fmt::format(
      "  if ((COMP_CWORD == 1)); then\n    if [[ $cur == -* ]]; then _schmidt_words {}; else "
      "_schmidt_words {}; fi\n    return\n  fi\n  case ${{COMP_WORDS[1]}} in\n",
      words(names_of(command.options, false)), words(verbs));
  for (const VerbForm& verb : command.verbs) text += verb_case(verb);
  text += "    *) return ;;\n  esac\n";
  text += kCount;
  text += "  case ${COMP_WORDS[1]}.$arguments in\n";
  for (const VerbForm& verb : command.verbs) text += argument_case(verb);
  text += "  esac\n  _schmidt_words \"$options\"\n}\n\ncomplete -F _schmidt schmidt\n";
  return text;
}

}  // namespace schmidt::cli
