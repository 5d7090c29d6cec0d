#include "schmidt/base/format_error.h"

#include <system_error>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"

namespace schmidt {

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
