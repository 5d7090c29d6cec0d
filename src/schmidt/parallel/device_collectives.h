#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <torch/types.h>

#include "schmidt/parallel/transport.h"

namespace schmidt::parallel {

class Exchange;

/// The collectives of ring.h among a group of ranks, on contiguous tensors that stay on a device.
/// All ranks call them in the same order; a call waits at most until all have called it. A message
/// is done when the tensor holds the result, and keeps it until then.
class DeviceCollectives {
 public:
  virtual ~DeviceCollectives() = default;

  virtual std::unique_ptr<Message> sum(const torch::Tensor& x) = 0;
  virtual std::unique_ptr<Message> reduce_scatter(const torch::Tensor& flat,
                                                  const std::vector<int64_t>& offsets) = 0;
  virtual std::unique_ptr<Message> gather_slices(const torch::Tensor& flat,
                                                 const std::vector<int64_t>& offsets) = 0;
  virtual std::unique_ptr<Message> broadcast(const torch::Tensor& x, int64_t root) = 0;
};

/// Makes those of an exchange's ranks, for tensors of this device; all ranks call it at the same
/// place. Null, on each of them, where tensors of the device have to go over the host's memory.
using MakeDeviceCollectives =
    std::function<std::unique_ptr<DeviceCollectives>(Exchange& exchange, torch::Device device)>;

/// By NCCL, whose sums are equal on all ranks. Null in a build without it, and where two ranks have
/// one GPU. Throws LostRank.
std::unique_ptr<DeviceCollectives> nccl_collectives(Exchange& exchange, torch::Device device);

}  // namespace schmidt::parallel
