#include "schmidt/base/format_error.h"

#include <system_error>

#include <fmt/format.h>

namespace schmidt {
namespace {

// A hostile file must not break the promise of one line.
std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

}  // namespace

FormatError::FormatError(const std::filesystem::path& path, std::string_view where,
                         std::string_view reason)
    : std::runtime_error(one_line(where.empty()
                                      ? fmt::format("{}: {}", path.string(), reason)
                                      : fmt::format("{}: {}: {}", path.string(), where, reason))),
      path_(path),
      where_(one_line(where)),
      reason_(one_line(reason)) {}

SystemError::SystemError(std::string_view action, const std::filesystem::path& path, int code)
    : std::runtime_error(one_line(
          fmt::format("{} {}: {}", action, path.string(), std::generic_category().message(code)))),
      action_(action),
      path_(path),
      code_(code) {}

}  // namespace schmidt
