#pragma once

#include <cstring>

#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

namespace schmidt::kernels {

/// A copy of a tensor that ends where memory ends: to read on behind it is a fault.
class AtTheEnd {
 public:
  explicit AtTheEnd(const torch::Tensor& from) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t size = from.nbytes(), used = (size + page - 1) / page * page;
    size_ = used + page;
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK(base_ != MAP_FAILED);
    TORCH_CHECK(mprotect(static_cast<char*>(base_) + used, page, PROT_NONE) == 0);
    data_ = static_cast<char*>(base_) + used - size;
    if (size > 0) std::memcpy(data_, from.const_data_ptr(), size);
  }
  AtTheEnd(const AtTheEnd&) = delete;
  AtTheEnd& operator=(const AtTheEnd&) = delete;
  ~AtTheEnd() { munmap(base_, size_); }
  template <typename T>
  const T* data() const {
    return static_cast<const T*>(data_);
  }

 private:
  void* base_ = nullptr;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace schmidt::kernels
