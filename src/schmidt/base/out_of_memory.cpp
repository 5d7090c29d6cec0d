#include "schmidt/base/out_of_memory.h"

#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

namespace schmidt {

std::optional<std::string> out_of_memory(const std::string& message) {
  const auto says = [&](std::string_view part) { return message.find(part) != std::string::npos; };
  if (!says("not enough memory") && !says("can't allocate memory") && !says("out of memory")) {
    return std::nullopt;
  }
  constexpr std::string_view kBefore = "tried to allocate ";
  const size_t at = message.find(kBefore);
  if (at == std::string::npos) return "out of memory: " + message;
  const double bytes = std::strtod(message.c_str() + at + kBefore.size(), nullptr);
  return fmt::format("out of memory: could not allocate another {:.1f} MB", bytes / 1e6);
}

}  // namespace schmidt
