#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace schmidt::io {

/// What a JSON file may ask of its reader.
struct JsonLimits {
  size_t max_bytes = 100'000'000;   ///< the longest text that is parsed at all
  int max_depth = 64;               ///< nested arrays and objects; the outermost counts as 1
  bool non_finite_is_null = false;  ///< NaN and Infinity, which Python writes, are null
};

/// Parses `text` strictly: one value of RFC 8259 in valid UTF-8, within the
/// limits, no key twice in one object (readers differ in which one counts).
/// `path` is for messages. Throws FormatError.
nlohmann::json parse_json(std::string_view text, const std::filesystem::path& path,
                          const JsonLimits& limits = {});

/// `parse_json` of a file, in which NaN and Infinity are null. Throws FormatError, SystemError if
/// it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

/// `read_json` of a file that has to hold an object, as every config does.
nlohmann::json read_json_object(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Whether a file holds nothing but white space. Throws SystemError.
bool is_blank_file(const std::filesystem::path& path);

/// A value as JSON text, in one line or indented. Whatever comes from outside may be in it: in
/// strings and keys, bytes that are not UTF-8, as of a file's name, are written by escaped_bytes.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);

// A member of a configuration that may be absent or null. Throw FormatError with file and key
// where it has another type.
std::string string_or(const nlohmann::json& object, const char* key, std::string fallback,
                      const std::filesystem::path& path);
int64_t integer_or(const nlohmann::json& object, const char* key, int64_t fallback,
                   const std::filesystem::path& path);
bool boolean_or(const nlohmann::json& object, const char* key, bool fallback,
                const std::filesystem::path& path);

}  // namespace schmidt::io
