#pragma once

#include <torch/types.h>

namespace schmidt::parallel {

/// A tensor as an exchange needs it, contiguous and on the CPU: the tensor itself where it is
/// so, otherwise a copy. Tensors of a GPU are exchanged through such copies.
class HostCopy {
 public:
  explicit HostCopy(const torch::Tensor& x) : original_(x), host_(x.detach().cpu().contiguous()) {}

  /// Shape of the original.
  const torch::Tensor& tensor() const { return host_; }

  bool is_copy() const { return !host_.is_alias_of(original_); }

  /// Brings what has become of the copy into the original.
  void write_back() const;

 private:
  torch::Tensor original_, host_;
};

}  // namespace schmidt::parallel
