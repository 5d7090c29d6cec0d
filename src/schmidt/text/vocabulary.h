#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "schmidt/text/json_view.h"

namespace schmidt::text {

// Real vocabularies have few holes: an id further beyond the tokens that are known is not believed,
// which bounds what a wrong one can allocate.
inline constexpr int64_t kMaxHoles = 1'000'000;

/// Lets a map of strings be searched by string_view.
struct StringHash : std::hash<std::string_view> {
  using is_transparent = void;
};

/// Tokens and their ids, both ways.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// From {"token": id}. Throws FormatError for an id that two tokens share, or one
  /// so far beyond the number of tokens that it can only be damage.
  explicit Vocabulary(const JsonView& json);

  /// Throws FormatError (as above, `place` is blamed) if the id or the token is
  /// there already with another partner.
  void add(std::string token, int64_t id, const JsonView& place);

  /// Highest id + 1.
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  std::optional<int64_t> id(std::string_view token) const;
  /// nullptr for an id that has no token.
  const std::string* token(int64_t id) const;

 private:
  std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>> ids_;
  std::vector<const std::string*> tokens_;  // by id, into ids_; nullptr for a hole
};

}  // namespace schmidt::text
