#pragma once

#include <filesystem>
#include <string_view>

namespace schmidt::io {

/// A clone without Git LFS leaves, in place of each large file, a few lines of text that name it.
/// Throws FormatError, with the command that fetches the file, if `content` begins as they do.
/// Source: git-lfs, docs/spec.md, "The Pointer".
void refuse_lfs_pointer(std::string_view content, const std::filesystem::path& path);

}  // namespace schmidt::io
