#include <string>

#include "schmidt/base/named.h"
#include "schmidt/cli/command_line.h"
#include "schmidt/cli/man_page.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/shell_completion.h"
#include "schmidt/cli/verbs.h"

namespace schmidt::cli {
namespace {

struct Shell {
  std::string_view name;
  std::string (*script)(const CommandForm& command);
};

constexpr Shell kShells[] = {
    {"bash", bash_completion},
    {"zsh", zsh_completion},
    {"fish", fish_completion},
};

}  // namespace

std::string quoted(const std::string& text, std::string_view special) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      if (special.find(c) != special.npos) out += '\\';
      out += c;
    }
  }
  return out + "'";
}

Action add_completion(CLI::App& verb) {
  auto shell = std::make_shared<std::string>();
  std::vector<std::string> names;
  for (const Shell& known : kShells) names.emplace_back(known.name);
  verb.add_option("SHELL", *shell, "Shell that reads the script")
      ->check(CLI::IsMember(names))
      ->required();
  return [shell, &verb] {
    print_now(find_named(kShells, *shell, "completion").script(command_form(*verb.get_parent())));
  };
}

Action add_man(CLI::App& verb) {
  return [&verb] { print_now(man_page(command_form(*verb.get_parent()), SCHMIDT_VERSION)); };
}

}  // namespace schmidt::cli
