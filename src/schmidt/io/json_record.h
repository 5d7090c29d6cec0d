#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::io {

/// One object of a JSON file, read with messages that name the file, the place and the key. Refers
/// to the object: it has to outlive the record.
class JsonRecord {
 public:
  /// `where` is the object's place, "layers.3"; empty for the whole file.
  /// Throws FormatError if `object` is none.
  JsonRecord(const nlohmann::json& object, std::string where, std::filesystem::path path);

  // All throw FormatError if the key is missing or holds something else.

  std::string text(const char* key) const;
  std::optional<std::string> optional_text(const char* key) const;  ///< none where no such key is
  std::vector<std::string> texts(const char* key) const;
  int64_t integer(const char* key, int64_t low, int64_t high) const;
  std::vector<int64_t> integers(const char* key, int64_t low, int64_t high) const;
  std::vector<int64_t> sizes(const char* key) const;  ///< each in [1, 2^28]
  bool flag(const char* key) const;
  double number(const char* key, double low, double high) const;  ///< finite
  const nlohmann::json& object(const char* key) const;
  JsonRecord record(const char* key) const;
  std::vector<JsonRecord> records(const char* key) const;

  /// Whether the key is there and not null.
  bool has(const char* key) const;

  [[noreturn]] void fail(const char* key, const std::string& reason) const;

 private:
  const nlohmann::json& at(const char* key) const;
  std::string place(const char* key) const;

  const nlohmann::json* object_;
  std::string where_;
  std::filesystem::path path_;
};

}  // namespace schmidt::io
