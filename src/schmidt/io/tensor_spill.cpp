#include "schmidt/io/tensor_spill.h"

#include <cerrno>
#include <utility>

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {

TensorSpill::TensorSpill(std::filesystem::path path, int64_t slots, std::vector<int64_t> shape,
                         torch::ScalarType dtype)
    : path_(std::move(path)), slots_(slots), shape_(std::move(shape)), dtype_(dtype) {
  slot_bytes_ = c10::multiply_integers(shape_) * c10::elementSize(dtype_);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw SystemError("cannot open", path_, errno);
  // Claimed now, so that a full disk shows before hours of work.
  const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(slots_ * slot_bytes_));
  if (error != 0) {
    ::close(fd_);
    throw SystemError("cannot make room in", path_, error);
  }
}

TensorSpill::~TensorSpill() {
  if (fd_ >= 0) ::close(fd_);
}

TensorSpill::TensorSpill(TensorSpill&& other) noexcept
    : path_(std::move(other.path_)),
      slots_(other.slots_),
      shape_(std::move(other.shape_)),
      dtype_(other.dtype_),
      slot_bytes_(other.slot_bytes_),
      fd_(std::exchange(other.fd_, -1)) {}

uint64_t TensorSpill::offset(int64_t slot) const {
  TORCH_CHECK_VALUE(slot >= 0 && slot < slots_, "[spill] expected a slot in [0, ", slots_,
                    "), got ", slot);
  return static_cast<uint64_t>(slot) * slot_bytes_;
}

void TensorSpill::write(int64_t slot, const torch::Tensor& tensor) {
  const uint64_t begin = offset(slot);
  TORCH_CHECK_VALUE(tensor.sizes() == torch::IntArrayRef(shape_) && tensor.scalar_type() == dtype_,
                    "[spill] expected ", dtype_, " ", torch::IntArrayRef(shape_), ", got ",
                    tensor.scalar_type(), " ", tensor.sizes());
  const torch::Tensor held = tensor.cpu().contiguous();
  const auto* bytes = static_cast<const char*>(held.const_data_ptr());
  for (uint64_t done = 0; done < slot_bytes_;) {
    const ssize_t n =
        ::pwrite(fd_, bytes + done, slot_bytes_ - done, static_cast<off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw SystemError("cannot write", path_, errno);
    done += static_cast<uint64_t>(n);
  }
}

torch::Tensor TensorSpill::read(int64_t slot) const {
  const uint64_t begin = offset(slot);
  torch::Tensor tensor = at::empty(shape_, dtype_);
  auto* bytes = static_cast<char*>(tensor.mutable_data_ptr());
  for (uint64_t done = 0; done < slot_bytes_;) {
    const ssize_t n =
        ::pread(fd_, bytes + done, slot_bytes_ - done, static_cast<off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw SystemError("cannot read", path_, n == 0 ? EIO : errno);
    done += static_cast<uint64_t>(n);
  }
  return tensor;
}

void TensorSpill::sync() const {
  if (::fsync(fd_) != 0) throw SystemError("cannot flush", path_, errno);
}

}  // namespace schmidt::io
