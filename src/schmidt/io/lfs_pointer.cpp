#include "schmidt/io/lfs_pointer.h"

#include "schmidt/base/format_error.h"

namespace schmidt::io {

void refuse_lfs_pointer(std::string_view content, const std::filesystem::path& path) {
  if (!content.starts_with("version https://git-lfs.github.com/spec/v")) return;
  throw FormatError(path, "",
                    "expected the file itself, found a Git LFS pointer to it; \"git lfs pull\" "
                    "fetches the file");
}

}  // namespace schmidt::io
