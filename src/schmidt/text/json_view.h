#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::text {

/// A value inside a JSON file together with its place, so that every complaint
/// names the file and the key. Does not own: file and value must outlive it.
class JsonView {
 public:
  JsonView(const nlohmann::json& value, const std::filesystem::path& path, std::string where = {});

  const nlohmann::json& value() const { return *value_; }
  const std::filesystem::path& path() const { return *path_; }
  const std::string& where() const { return where_; }

  /// Throws FormatError with this place and `reason`.
  [[noreturn]] void fail(std::string_view reason) const;

  /// A member of an object; null counts as absent. `at` throws FormatError for an
  /// absent one, both if this is no object.
  std::optional<JsonView> find(const std::string& key) const;
  JsonView at(const std::string& key) const;

  /// The elements of an array.
  std::vector<JsonView> items() const;

  // This value, or FormatError if it has another type.
  const std::string& string() const;
  bool boolean() const;
  int64_t integer() const;  ///< not negative

  /// What `table`, a map by name, holds under this text; `what` is named where it holds nothing:
  /// FormatError 'the decoder "X" is not supported'.
  template <typename Table>
  const typename Table::mapped_type& look_up(const Table& table, std::string_view what) const {
    const auto found = table.find(string());
    if (found == table.end()) fail_unsupported(what);
    return found->second;
  }

  // A member that may be absent.
  bool boolean_or(const std::string& key, bool fallback) const;
  std::string string_or(const std::string& key, const std::string& fallback) const;

 private:
  [[noreturn]] void fail_unsupported(std::string_view what) const;

  const nlohmann::json* value_;
  const std::filesystem::path* path_;
  std::string where_;
};

}  // namespace schmidt::text
