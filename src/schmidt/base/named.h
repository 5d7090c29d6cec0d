#pragma once

#include <string>
#include <string_view>

#include <c10/util/Exception.h>

namespace schmidt {

/// The entry of a table whose `name` it is, in a table of entries or of pointers to them;
/// `what` opens the message.
/// Throws c10::ValueError, naming those that exist.
template <typename Table>
const auto& find_named(const Table& table, std::string_view name, std::string_view what) {
  const auto name_of = [](const auto& entry) {
    if constexpr (requires { entry->name; }) {
      return std::string_view(entry->name);
    } else {
      return std::string_view(entry.name);
    }
  };
  std::string known;
  for (const auto& entry : table) {
    if (name_of(entry) == name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(name_of(entry));
  }
  TORCH_CHECK_VALUE(false, "[", std::string(what), "] expected one of ", known, ", got \"",
                    std::string(name), "\"");
}

}  // namespace schmidt
