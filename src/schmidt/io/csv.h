#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::io {

/// The rows of comma-separated values (RFC 4180): fields in quotes may hold commas, line
/// breaks and doubled quotes; lines end with LF or CRLF, and empty ones do not count.
/// `path` is for messages. Throws FormatError for a quote that is not closed or in the
/// middle of a field.
std::vector<std::vector<std::string>> parse_csv(std::string_view text,
                                                const std::filesystem::path& path);

}  // namespace schmidt::io
