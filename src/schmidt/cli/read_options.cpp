#include "schmidt/cli/read_options.h"

#include <c10/util/Exception.h>

#include "schmidt/compress/methods.h"
#include "schmidt/pipeline/byte_plan.h"

namespace schmidt::cli {

std::set<std::string> given_options(const CLI::App& verb) {
  std::set<std::string> given;
  for (const CLI::Option* option : verb.get_options()) {
    if (option->count() > 0) given.insert("--" + option->get_single_name());
  }
  return given;
}

std::vector<std::string> method_names(bool integers) {
  std::vector<std::string> names;
  for (const compress::Method* method : compress::methods()) {
    if (method->integers == integers) names.emplace_back(method->name);
  }
  return names;
}

std::vector<std::string> all_method_names() {
  std::vector<std::string> names = method_names(false);
  const std::vector<std::string> integers = method_names(true);
  names.insert(names.end(), integers.begin(), integers.end());
  return names;
}

void add_forms_option(CLI::App& verb, std::vector<std::string>& forms, const std::string& with) {
  verb.add_option(
          "--forms", forms,
          with +
              ": forms that compete: integers, low-rank (factors in integers), sums (both); auto: "
              "integers, and all of them where they are predicted to lose far less")
      ->delimiter(',')
      ->check(CLI::IsMember({"auto", "integers", "low-rank", "sums"}))
      ->capture_default_str();
}

void check_options_are_read(const std::string& verb, const std::set<std::string>& given,
                            const std::vector<ConditionalOptions>& options) {
  for (const ConditionalOptions& conditional : options) {
    for (const char* name : conditional.names) {
      TORCH_CHECK_VALUE(conditional.read || !given.contains(name), "[", verb, "] ", name,
                        " is read with ", conditional.by,
                        " alone; expected both or neither of them");
    }
  }
}

}  // namespace schmidt::cli
