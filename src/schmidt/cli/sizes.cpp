#include "schmidt/cli/sizes.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/cli/console.h"

namespace schmidt::cli {
namespace {

double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 100.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::string sizes_text(const package::ModelSummary& s) {
  return fmt::format(
      "parameters kept  {:.2f} % of the whole model ({} of {}), {:.2f} % of the tensorized layers\n"
      "weights          {}: {:.1f} % of the original in float32 ({}), {:.1f} % in float16 ({})\n",
      100.0 * s.keep(), s.parameters, s.dense_parameters, 100.0 * s.tensorized_keep(),
      human_bytes(static_cast<double>(s.bytes)), percent(s.bytes, s.dense_bytes(4)),
      human_bytes(static_cast<double>(s.dense_bytes(4))), percent(s.bytes, s.dense_bytes(2)),
      human_bytes(static_cast<double>(s.dense_bytes(2))));
}

nlohmann::ordered_json sizes_json(const package::ModelSummary& s) {
  return {{"parameters", s.parameters},
          {"dense_parameters", s.dense_parameters},
          {"keep", s.keep()},
          {"tensorized_keep", s.tensorized_keep()},
          {"bytes", s.bytes},
          {"dense_bytes_float32", s.dense_bytes(4)},
          {"dense_bytes_float16", s.dense_bytes(2)}};
}

double bits_per_weight(const package::ModelSummary& s) {
  return 8.0 * static_cast<double>(s.bytes) / static_cast<double>(s.dense_parameters);
}

std::string bits_text(const package::ModelSummary& s) {
  return fmt::format(
      "bits a weight    {:.3f}, all bytes of the weights over the original's parameters\n",
      bits_per_weight(s));
}

double parse_size(const std::string& text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},     {"B", 1},       {"KB", 1e3},        {"kB", 1e3},          {"MB", 1e6},
      {"GB", 1e9}, {"KiB", 1024.}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string_view unit(end);
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits) {
    if (name != unit || end == text.c_str() || !std::isfinite(number) || number <= 0) continue;
    // Beyond it a count of bytes has no room in 64 bits.
    TORCH_CHECK_VALUE(number * bytes >= 1 && number * bytes < 1e18,
                      "[size] expected 1 byte to 1e18 bytes, got \"", text, "\"");
    return number * bytes;
  }
  TORCH_CHECK_VALUE(false, "[size] expected bytes such as 120MB, 1.5GB or 64MiB, got \"", text,
                    "\"");
}

int64_t parse_token_count(const std::string& text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  double factor = 0.0;
  if (unit.empty()) factor = 1.0;
  if (unit == "k" || unit == "K") factor = 1e3;
  if (unit == "M") factor = 1e6;
  if (unit == "B" || unit == "G") factor = 1e9;
  TORCH_CHECK_VALUE(error == std::errc() && factor > 0.0 && value >= 0.0 && value * factor < 1e15,
                    "[tokens] expected a number of tokens such as 200000, 200k or 1M, got ", text);
  return static_cast<int64_t>(value * factor);
}

}  // namespace schmidt::cli
