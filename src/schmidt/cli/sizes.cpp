#include "schmidt/cli/sizes.h"

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

}  // namespace schmidt::cli
