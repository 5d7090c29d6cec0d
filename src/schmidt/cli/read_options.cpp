#include "schmidt/cli/read_options.h"

#include <c10/util/Exception.h>

#include "schmidt/cli/options.h"
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
    if (method->integers == integers && !method->prunes) names.emplace_back(method->name);
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
              ": forms that compete: integers, low-rank (factors in integers), sums (both), "
              "factors (as they are); auto: integers, and for bytes those with ranks where they "
              "are predicted to lose far less, for time factors")
      ->delimiter(',')
      ->check(CLI::IsMember({"auto", "integers", "low-rank", "sums", "factors"}))
      ->capture_default_str();
}

void add_speed_options(CLI::App& verb, std::optional<double>& speedup, std::string& speed_of,
                       pipeline::Workload& workload, const std::string& with) {
  verb.add_option("--speedup", speedup,
                  with +
                      ": how many times as fast as its original the model shall be on this "
                      "machine, by the measured time of every form")
      ->check(kPositive);
  verb.add_option("--speed-of", speed_of,
                  "--speedup: of decode, a token at a time, or of prefill, reading a prompt")
      ->check(CLI::IsMember({"decode", "prefill"}))
      ->capture_default_str();
  verb.add_option("-b,--batch", workload.batch, "--speedup: sequences computed at once")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("-p,--n-prompt", workload.prompt, "--speedup: tokens of a prompt that is read")
      ->check(kPositive)
      ->capture_default_str();
}

std::vector<ConditionalOptions> speed_conditions(bool asked, const std::string& speed_of) {
  return {{{"--speed-of", "--batch"}, asked, "--speedup"},
          {{"--n-prompt"}, asked && speed_of == "prefill", "--speedup of prefill"}};
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
