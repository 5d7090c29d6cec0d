#pragma once

#include <string>
#include <string_view>

#include <c10/util/Exception.h>

namespace schmidt {

/// The entry of a table whose `name` it is; `what` opens the message.
/// Throws c10::ValueError, naming those that exist.
template <typename Table>
const auto& find_named(const Table& table, std::string_view name, std::string_view what) {
  std::string known;
  for (const auto& entry : table) {
    if (entry.name == name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  TORCH_CHECK_VALUE(false, "[", std::string(what), "] expected one of ", known, ", got \"",
                    std::string(name), "\"");
}

}  // namespace schmidt
