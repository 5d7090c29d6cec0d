#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <torch/types.h>

namespace schmidt::io {

/// Tensors of one shape and dtype that wait on disk instead of in memory: slot i of
/// a file of raw values. The file is named by the caller and stays when the object
/// goes; nothing about it is portable to another machine.
class TensorSpill {
 public:
  /// Opens or makes the file with room for `slots` tensors.
  /// Throws SystemError, a full disk included.
  TensorSpill(std::filesystem::path path, int64_t slots, std::vector<int64_t> shape,
              torch::ScalarType dtype);
  ~TensorSpill();
  TensorSpill(TensorSpill&& other) noexcept;
  TensorSpill& operator=(TensorSpill&&) = delete;

  int64_t slots() const { return slots_; }

  /// Throws c10::ValueError if slot, shape or dtype do not fit.
  void write(int64_t slot, const torch::Tensor& tensor);
  torch::Tensor read(int64_t slot) const;

  /// What was written is on the disk afterwards.
  void sync() const;

 private:
  uint64_t offset(int64_t slot) const;

  std::filesystem::path path_;
  int64_t slots_;
  std::vector<int64_t> shape_;
  torch::ScalarType dtype_;
  uint64_t slot_bytes_;
  int fd_ = -1;
};

}  // namespace schmidt::io
