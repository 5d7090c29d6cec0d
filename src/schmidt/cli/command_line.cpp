#include "schmidt/cli/command_line.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "schmidt/cli/options.h"

namespace schmidt::cli {
namespace {

constexpr std::pair<std::string_view, ValueKind> kKinds[] = {
    {kFileValue, ValueKind::kFile},
    {kFolderValue, ValueKind::kFolder},
    {kPathValue, ValueKind::kPath},
    {kModelValue, ValueKind::kModel},
};

/// "{a,b}" -> a, b.
std::vector<std::string> choices_in(std::string_view set) {
  set = set.substr(1, set.size() - 2);
  std::vector<std::string> choices;
  while (true) {
    const size_t end = std::min(set.find(','), set.size());
    choices.emplace_back(set.substr(0, end));
    if (end == set.size()) return choices;
    set.remove_prefix(end + 1);
  }
}

// CLI11 tells a type and its checks in one text: "TEXT:{cpu,cuda}", "INT:INT in [0 - 4096]".
void read_type(const std::string& type, OptionForm& form) {
  const size_t colon = std::min(type.find(':'), type.size());
  form.value_name = type.substr(0, colon);
  form.kind = ValueKind::kText;
  for (const auto& [name, kind] : kKinds) {
    if (form.value_name == name) form.kind = kind;
  }
  if (colon == type.size()) return;
  const std::string check = type.substr(colon + 1);
  if (check.starts_with('{') && check.ends_with('}')) {
    form.choices = choices_in(check);
    if (form.kind == ValueKind::kText) form.kind = ValueKind::kChoice;
  } else {
    form.limits = check;
  }
}

OptionForm form_of(const CLI::Option& option) {
  OptionForm form;
  for (const std::string& name : option.get_snames()) form.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) form.names.push_back("--" + name);
  if (form.names.empty()) form.names.push_back(option.get_single_name());
  form.help = option.get_description();
  form.group = option.get_group();
  form.is_required = option.get_required();
  if (option.get_items_expected_max() == 0) return form;
  read_type(option.get_type_name(), form);
  form.default_value = option.get_default_str();
  if (form.default_value.starts_with('[') && form.default_value.ends_with(']')) {  // of a list
    form.default_value = form.default_value.substr(1, form.default_value.size() - 2);
  }
  form.environment = option.get_envname();
  form.is_list = option.get_delimiter() == ',';
  form.repeats = option.get_items_expected_max() > 1;
  return form;
}

}  // namespace

std::optional<std::pair<std::string, std::string>> range_of(const OptionForm& option) {
  const std::string& limits = option.limits;
  const size_t open = limits.find('['), middle = limits.find(" - "), end = limits.find(']');
  if (open == limits.npos || middle == limits.npos || end == limits.npos) return std::nullopt;
  return std::pair(limits.substr(open + 1, middle - open - 1),
                   limits.substr(middle + 3, end - middle - 3));
}

CommandForm command_form(const CLI::App& program) {
  const auto options_of = [](const CLI::App& app, bool arguments) {
    std::vector<OptionForm> forms;
    for (const CLI::Option* option : app.get_options()) {
      const bool is_hidden = option->get_group().empty();
      if (!is_hidden && option->get_positional() == arguments) forms.push_back(form_of(*option));
    }
    return forms;
  };
  CommandForm form{program.get_name(), program.get_description(), options_of(program, false), {}};
  for (const CLI::App* verb : program.get_subcommands({})) {
    form.verbs.push_back({verb->get_name(), verb->get_description(), options_of(*verb, false),
                          options_of(*verb, true)});
  }
  return form;
}

}  // namespace schmidt::cli
