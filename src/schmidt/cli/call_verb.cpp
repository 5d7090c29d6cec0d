#include "schmidt/cli/call_verb.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <c10/util/Exception.h>

namespace schmidt::cli {
namespace {

struct CallableVerb {
  const char* name;
  Action (*add)(CLI::App&);
};

constexpr CallableVerb kVerbs[] = {
    {"inspect", add_inspect},
    {"compress", add_compress},
    {"quantize", add_quantize},
    {"heal", add_heal},
};

constexpr std::string_view kOfPrinting[] = {"--json", "--quiet", "--verbose", "--help"};

}  // namespace

std::vector<VerbForm> callable_verbs() {
  CLI::App program;
  std::vector<Action> actions;  // hold the values of the options
  for (const CallableVerb& verb : kVerbs) {
    actions.push_back(verb.add(*program.add_subcommand(verb.name)));
  }
  std::vector<VerbForm> verbs = command_form(program).verbs;
  for (VerbForm& verb : verbs) {
    std::erase_if(verb.options, [](const OptionForm& option) {
      return std::ranges::find(kOfPrinting, option.names.back()) != std::end(kOfPrinting);
    });
  }
  return verbs;
}

nlohmann::ordered_json call_verb(const std::string& name, const std::vector<std::string>& arguments,
                                 const Caller& caller) {
  const auto* const verb = std::ranges::find(kVerbs, name, &CallableVerb::name);
  TORCH_CHECK_VALUE(verb != std::end(kVerbs), "[call] there is no verb \"", name, "\" to call");
  CLI::App app;
  app.set_help_flag();
  const Action action = verb->add(app);
  check_whole_numbers(app);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    TORCH_CHECK_VALUE(false, "[", name, "] ", error.what());
  }
  return action.call(caller);
}

}  // namespace schmidt::cli
