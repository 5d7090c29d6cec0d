#pragma once

#include <string>
#include <string_view>

namespace schmidt {

/// `bytes` as UTF-8 (Unicode 15, table 3-7): what is well-formed as it is, every other byte as
/// \xE9. For names of files, which hold any bytes, where text is expected.
std::string escaped_bytes(std::string_view bytes);

/// `text` with spaces for control characters: a message stays one line, whatever names a hostile
/// file or folder puts into it.
std::string one_line(std::string_view text);

}  // namespace schmidt
