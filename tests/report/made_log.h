#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::test {

/// A run whose loss falls from 5 to 3 over `steps`.
inline std::vector<nlohmann::json> made_log(int64_t steps) {
  std::vector<nlohmann::json> log = {{{"run", {{"peak_rate", 5e-4}, {"data", "a <file>"}}}}};
  for (int64_t b = 0; b < 3; ++b) {
    const auto block = static_cast<double>(b);
    log.push_back({{"block", b}, {"error_before", 0.21 + block}, {"error_after", 0.13 + block}});
  }
  for (int64_t s = 1; s <= steps; ++s) {
    const double part = static_cast<double>(s) / static_cast<double>(steps);
    const double wave = 0.2 * std::sin(static_cast<double>(s * s));
    const double loss = 3.0 + 2.0 * std::exp(-4.0 * part) + wave;
    log.push_back({{"step", s},
                   {"tokens", s * 2048},
                   {"loss", loss},
                   {"cross_entropy", loss + 0.4},
                   {"kl", loss - 2.2},
                   {"learning_rate", 5e-4 * part},
                   {"gradient_norm", 0.8 + wave},
                   {"tokens_per_second", 210.0 + 20 * wave},
                   {"seconds", 9.75 * static_cast<double>(s)},
                   {"memory", 2100000000},
                   {"bytes_exchanged", 0},
                   {"skipped", s == 7}});
    if (s % std::max<int64_t>(10, steps / 40) != 0) continue;
    log.push_back({{"step", s},
                   {"held_out_loss", loss + 0.0625},
                   {"held_out_cross_entropy", loss + 0.5},
                   {"held_out_kl", loss - 2.0}});
  }
  log.push_back({{"before", {{"held_out_loss", 5.125}, {"held_out_cross_entropy", 5.5}}},
                 {"after", {{"held_out_loss", 3.25}, {"held_out_cross_entropy", 3.75}}}});
  return log;
}

}  // namespace schmidt::test
