#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::report {

/// The lines of a healing run's log (healing_page.h), sorted out.
struct HealingLog {
  nlohmann::json options = nlohmann::json::object();
  std::vector<nlohmann::json> blocks;
  std::map<int64_t, nlohmann::json> steps, evaluations;
  nlohmann::json before, after;  ///< null where the run has not ended
};

HealingLog sorted_out(const std::vector<nlohmann::json>& log);

/// NaN where the line has no such number.
double number_of(const nlohmann::json& line, const char* key);

/// "held_out_loss" as words.
std::string spaced(std::string text);

}  // namespace schmidt::report
