#include "schmidt/report/healing_log.h"

#include <algorithm>
#include <limits>

namespace schmidt::report {

using nlohmann::json;

double number_of(const json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>()
                                                   : std::numeric_limits<double>::quiet_NaN();
}

HealingLog sorted_out(const std::vector<json>& log) {
  HealingLog run;
  for (const json& line : log) {
    if (!line.is_object()) continue;
    if (line.contains("run") && line["run"].is_object()) run.options = line["run"];
    if (line.contains("block")) run.blocks.push_back(line);
    if (line.contains("before") && line.contains("after")) {
      run.before = line["before"];
      run.after = line["after"];
    }
    const auto step = line.find("step");
    if (step == line.end() || !step->is_number_integer()) continue;
    (line.contains("held_out_loss") ? run.evaluations : run.steps)[step->get<int64_t>()] = line;
  }
  return run;
}

std::string spaced(std::string text) {
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

}  // namespace schmidt::report
