#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::serve {

/// The JSON object of a request's body, read with messages that name the field. A field that is
/// null counts as absent. All throw ApiError of status 400. Refers to the object.
class Fields {
 public:
  /// `where` is the object's place, "messages[0]"; empty for the whole body.
  explicit Fields(const nlohmann::json& object, std::string where = {});

  /// Null where the field is absent.
  const nlohmann::json* find(const char* name) const;
  const nlohmann::json& at(const char* name) const;

  std::string text(const char* name, const std::string& fallback) const;
  bool flag(const char* name, bool fallback) const;
  std::optional<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  /// Finite, in [low, high].
  double number(const char* name, double fallback, double low, double high) const;

  [[noreturn]] void fail(const char* name, const std::string& expected,
                         const nlohmann::json& found) const;

 private:
  std::string place(const char* name) const;

  const nlohmann::json* object_;
  std::string where_;
};

/// Parses a body: one JSON object in UTF-8, no key twice, at most 32 levels deep.
nlohmann::json parse_body(std::string_view body);

/// Token ids, each in [0, vocabulary). `where` names the list.
std::vector<int64_t> token_ids(const nlohmann::json& list, int64_t vocabulary,
                               const std::string& where);

}  // namespace schmidt::serve
