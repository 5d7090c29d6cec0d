#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/parallel/device_collectives.h"
#include "schmidt/parallel/transport.h"

namespace schmidt::parallel {

struct ExchangeOptions {
  /// How long a rank that waits may hear nothing before it gives up, seconds, above 0.
  double deadline_seconds = 600;
};

/// Something that goes on while its rank computes. Empty where nothing is to be done.
struct Operation;
using Ticket = std::shared_ptr<Operation>;

/// Exchanges tensors among a group of ranks, here numbered 0 .. size - 1.
///
/// `start_*` returns at once (NCCL's first calls when all ranks have called), and a thread of its
/// own does the exchange: sums, gathers and broadcasts one after another in the order of the calls,
/// which must be the same on all ranks; sends and receives beside them. The tensor is the thread's
/// until `wait` has returned.
///
/// A rank that waits throws LostRank once nothing has arrived for the deadline: a rank that
/// died, was stopped or hangs ends the others so. Then, and when an exchange ends before
/// its operations do, what is under way is given up.
///
/// A group of one has nothing to exchange: every call returns at once. Sums, gathers and broadcasts
/// of contiguous tensors of a GPU stay there where NCCL can do them. All others that are not
/// contiguous or not on the CPU go through a copy there, which `wait` and `wait_all` bring back.
/// Not for several threads at once.
class Exchange {
 public:
  /// By MPI among these ranks, given in the same order by each of them, at the same place
  /// among the exchanges that it makes. Throws c10::ValueError if this rank is not among
  /// them or one is named twice.
  explicit Exchange(const std::vector<int64_t>& ranks, ExchangeOptions options = {});

  /// By other means. Null: a group of one.
  explicit Exchange(std::unique_ptr<Transport> transport, ExchangeOptions options = {},
                    MakeDeviceCollectives make = nccl_collectives);

  ~Exchange();
  Exchange(Exchange&&) noexcept;
  Exchange& operator=(Exchange&&) noexcept;

  int64_t rank() const;
  int64_t size() const;
  double deadline_seconds() const;

  /// x of any shape becomes its sum over the ranks, as `sum` in ring.h: equal to the last
  /// bit on all of them, and from run to run with as many ranks. float32, float64, int64.
  Ticket start_sum(const torch::Tensor& x);

  /// Slice r of flat [n], [offsets[r], offsets[r + 1]), becomes its sum on rank r; there
  /// the others are of no use then. The first half of a sum.
  Ticket start_reduce_scatter(const torch::Tensor& flat, const std::vector<int64_t>& offsets);

  /// Slice r of flat [n] becomes what rank r holds there. The second half of a sum.
  Ticket start_gather_slices(const torch::Tensor& flat, const std::vector<int64_t>& offsets);

  /// x becomes what rank `root` holds.
  Ticket start_broadcast(const torch::Tensor& x, int64_t root);

  /// Between two ranks, in the order of their calls. Many may be under way at a time.
  Ticket start_send(const torch::Tensor& x, int64_t to);
  Ticket start_receive(const torch::Tensor& x, int64_t from);

  /// Returns when the operation is done. Throws LostRank.
  void wait(const Ticket& ticket);
  void wait_all();

  // The same, waited for.
  void sum(const torch::Tensor& x) { wait(start_sum(x)); }
  void reduce_scatter(const torch::Tensor& flat, const std::vector<int64_t>& offsets) {
    wait(start_reduce_scatter(flat, offsets));
  }
  void gather_slices(const torch::Tensor& flat, const std::vector<int64_t>& offsets) {
    wait(start_gather_slices(flat, offsets));
  }
  void broadcast(const torch::Tensor& x, int64_t root) { wait(start_broadcast(x, root)); }
  void send(const torch::Tensor& x, int64_t to) { wait(start_send(x, to)); }
  void receive(const torch::Tensor& x, int64_t from) { wait(start_receive(x, from)); }

  /// What this rank is at, for the message of a LostRank: "step 12".
  void describe(std::string work);

  /// Bytes of tensors that this rank has sent, without the headers of messages. With N
  /// ranks 2 (N - 1) / N of a tensor for a sum, (N - 1) / N for either half of it, and up
  /// to log2 N times the tensor for a broadcast. What NCCL does counts as if a ring did it.
  int64_t bytes_sent() const;

 private:
  DeviceCollectives* device_collectives(const torch::Tensor& x);
  Ticket start_on_device(const char* what, std::unique_ptr<Message> message, double sent);
  double share_sent(const torch::Tensor& x) const;

  struct State;
  std::unique_ptr<State> state_;  // null: alone
};

/// 0 .. size() - 1: all ranks that mpirun started.
std::vector<int64_t> all_ranks();

}  // namespace schmidt::parallel
