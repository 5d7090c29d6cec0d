#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::model {

/// One object of config.json's compression_config, read with messages that name the
/// layer and the key. Refers to the object: it has to outlive the form.
class Form {
 public:
  /// `where` is the object's place: "compression_config.layers.NAME".
  /// Throws FormatError if `object` is none.
  Form(const nlohmann::json& object, std::string where, std::filesystem::path path);

  // All throw FormatError if what stands under the key is not of the kind asked for.

  std::vector<int64_t> sizes(const char* key) const;  ///< each in [1, 2^28]
  std::optional<std::string> text(const char* key) const;
  std::vector<Form> forms(const char* key) const;  ///< an array of objects

  [[noreturn]] void fail(const char* key, const std::string& reason) const;

 private:
  const nlohmann::json* object_;
  std::string where_;
  std::filesystem::path path_;
};

}  // namespace schmidt::model
