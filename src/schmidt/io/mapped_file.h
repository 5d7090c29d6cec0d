#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace schmidt::io {

/// A regular file as bytes in memory, read-only; pages come in as they are
/// touched. A file that another process cuts short while it is mapped ends the
/// program with SIGBUS: checkpoints are replaced, never rewritten in place.
class MappedFile {
 public:
  /// Throws SystemError if it cannot be opened, FormatError if it is no regular
  /// file: a pipe would hang, a device has no end.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

/// Gives back the memory that whole pages of `part` take, without which a model read
/// tensor by tensor would fill the memory after all. `part` lies in the bytes of a
/// MappedFile, and nowhere else: read again, it comes from the file.
void forget_pages(std::string_view part);

}  // namespace schmidt::io
