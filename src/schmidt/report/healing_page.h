#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::report {

/// What a healing run did, in one page that opens without a network: the figures before
/// and after, the curves over its steps, every evaluation, the blocks, the options.
/// A line of the log, as heal::read_run_log reads them, is one of
///
///   {"run": {options}}
///   {"block", "error_before", "error_after"}
///   {"step", "tokens", "loss", "cross_entropy", "kl", "learning_rate", "gradient_norm",
///    "tokens_per_second", "seconds", "memory" (bytes), "bytes_exchanged", "skipped"}
///   {"step", "held_out_loss", "held_out_cross_entropy", "held_out_kl"}
///   {"before": {figures}, "after": {figures}}
///
/// Of a step that a resumed run went through again the last line counts. What a line does
/// not hold, or holds as null, is left out; so is a line that is none of these. A run
/// that has not ended is compared by its first and last evaluation.
std::string healing_page(const std::vector<nlohmann::json>& log, std::string_view title);

}  // namespace schmidt::report
