#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

/// The command line as data, read from the same options that parse it: what shells complete and
/// the manual page lists (shell_completion.h, man_page.h).
namespace schmidt::cli {

/// What the value of an option is, as far as a shell can complete it.
enum class ValueKind {
  kNone,    ///< a flag: there is none
  kText,    ///< numbers and words that only the user knows
  kChoice,  ///< one of `choices`
  kFile,
  kFolder,
  kPath,   ///< a file or a folder
  kModel,  ///< a path, or an id in the hub's cache
};

struct OptionForm {
  std::vector<std::string> names;  ///< "-o", "--out"; of an argument: "MODEL"
  std::string help;
  std::string value_name;  ///< "FILE", "INT"; empty for a flag
  ValueKind kind = ValueKind::kNone;
  std::vector<std::string> choices;
  std::string limits;         ///< "INT in [0 - 4096]"; often empty
  std::string default_value;  ///< empty where there is none
  std::string environment;    ///< the variable that sets it too; often empty
  std::string group;          ///< the heading it stands under in --help
  bool is_list = false;       ///< values in one word, between commas
  bool repeats = false;       ///< may be given more than once
  bool is_required = false;

  bool takes_value() const { return kind != ValueKind::kNone; }
};

/// The two ends of an option's `limits`, "0" and "4096"; none where these are no range.
std::optional<std::pair<std::string, std::string>> range_of(const OptionForm& option);

struct VerbForm {
  std::string name;
  std::string help;
  std::vector<OptionForm> options;
  std::vector<OptionForm> arguments;  ///< by their places
};

struct CommandForm {
  std::string name;
  std::string help;
  std::vector<OptionForm> options;  ///< those in front of a verb
  std::vector<VerbForm> verbs;
};

CommandForm command_form(const CLI::App& program);

}  // namespace schmidt::cli
