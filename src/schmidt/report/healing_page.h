#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::report {

/// The lines of a healing run's log, JSON Lines. A last line that is cut short, as a kill
/// leaves it, is left out. Throws FormatError naming any other line that is no object,
/// SystemError if the file cannot be read.
std::vector<nlohmann::json> read_healing_log(const std::filesystem::path& path);

/// What a healing run did, in one page that opens without a network: the figures before
/// and after, the curves over its steps, every evaluation, the blocks, the options.
/// A line of the log is one of
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
