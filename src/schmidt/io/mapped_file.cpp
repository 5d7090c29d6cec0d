#include "schmidt/io/mapped_file.h"

#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

struct FileDescriptor {
  int fd;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe without a writer must fail below, not wait.
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) throw SystemError("cannot open", path, errno);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) throw SystemError("cannot read", path, errno);
  if (!S_ISREG(status.st_mode)) throw FormatError(path, "", "expected a regular file");
  if (status.st_size == 0) return;  // mmap refuses empty files
  void* data =
      ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) throw SystemError("cannot map", path, errno);
  data_ = static_cast<const char*>(data);
  size_ = static_cast<size_t>(status.st_size);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

void forget_pages(std::string_view part) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t begin = (first + page - 1) / page * page;
  const uintptr_t end = (first + part.size()) / page * page;
  // A failure leaves the pages where they are.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace schmidt::io
