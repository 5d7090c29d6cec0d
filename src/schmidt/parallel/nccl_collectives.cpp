#include "schmidt/parallel/device_collectives.h"

#ifdef SCHMIDT_NCCL

#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/format.h>
#include <nccl.h>

#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/pause.h"

namespace schmidt::parallel {
namespace {

/// Throws LostRank, and c10::Error for a call that is wrong in itself.
void check_nccl(ncclResult_t code) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  TORCH_CHECK(code != ncclInvalidArgument && code != ncclInvalidUsage,
              "[exchange] NCCL: ", ncclGetErrorString(code), ": ", ncclGetLastError(nullptr));
  throw LostRank(fmt::format("NCCL gave up: another rank is out of reach, or a GPU has failed ({})",
                             ncclGetErrorString(code)));
}

ncclDataType_t type_of(const torch::Tensor& x) {
  switch (x.scalar_type()) {
    case torch::kFloat32:
      return ncclFloat32;
    case torch::kFloat64:
      return ncclFloat64;
    case torch::kInt64:
      return ncclInt64;
    default:
      TORCH_CHECK_VALUE(false, "[exchange] expected float32, float64 or int64, got ",
                        x.scalar_type());
  }
}

char* slice_of(const torch::Tensor& flat, int64_t begin) {
  return static_cast<char*>(flat.mutable_data_ptr()) + begin * flat.element_size();
}

/// A communicator none of whose calls waits for the other ranks.
class Communicator {
 public:
  Communicator(const ncclUniqueId& id, int64_t rank, int64_t size, double deadline_seconds)
      : deadline_(deadline_seconds) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      check_nccl(ncclCommInitRankConfig(&communicator_, static_cast<int>(size), id,
                                        static_cast<int>(rank), &config));
      settle();
    } catch (...) {
      if (communicator_ != nullptr) ncclCommAbort(communicator_);
      throw;
    }
  }

  // What goes on is given up: the others may be gone. Whoever ends in order has met them before.
  ~Communicator() { ncclCommAbort(communicator_); }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  ncclComm_t get() const { return communicator_; }

  /// Throws as check_nccl for what has gone wrong since.
  ncclResult_t state() const {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(communicator_, &state));
    check_nccl(state);
    return state;
  }

  /// Returns when the last call is under way on all ranks. Throws LostRank after the deadline.
  void settle() const {
    const auto begun = std::chrono::steady_clock::now();
    for (Pause pause; state() == ncclInProgress; pause()) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begun;
      if (waited.count() > deadline_) {
        throw LostRank(fmt::format("the other ranks did not answer for {} s (NCCL)", deadline_));
      }
    }
  }

 private:
  ncclComm_t communicator_ = nullptr;
  double deadline_;
};

class NcclMessage final : public Message {
 public:
  NcclMessage(const Communicator& communicator, torch::Tensor x, at::cuda::CUDAEvent ended)
      : communicator_(communicator), tensor_(std::move(x)), ended_(std::move(ended)) {}

  bool done() override {
    communicator_.state();
    return ended_.query();
  }

 private:
  const Communicator& communicator_;
  torch::Tensor tensor_;
  at::cuda::CUDAEvent ended_;
};

class NcclCollectives final : public DeviceCollectives {
 public:
  NcclCollectives(const ncclUniqueId& id, const Exchange& exchange, torch::Device device)
      : stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {
    const c10::cuda::CUDAGuard guard(device);
    communicator_.emplace(id, exchange.rank(), exchange.size(), exchange.deadline_seconds());
  }

  std::unique_ptr<Message> sum(const torch::Tensor& x) override {
    return start(x, [&, type = type_of(x)] {
      void* values = x.mutable_data_ptr();
      check_nccl(ncclAllReduce(values, values, static_cast<size_t>(x.numel()), type, ncclSum,
                               communicator_->get(), stream_));
    });
  }

  std::unique_ptr<Message> reduce_scatter(const torch::Tensor& flat,
                                          const std::vector<int64_t>& offsets) override {
    return start(flat, [&, type = type_of(flat)] {
      for (size_t r = 0; r + 1 < offsets.size(); ++r) {
        char* slice = slice_of(flat, offsets[r]);
        check_nccl(ncclReduce(slice, slice, static_cast<size_t>(offsets[r + 1] - offsets[r]), type,
                              ncclSum, static_cast<int>(r), communicator_->get(), stream_));
      }
    });
  }

  std::unique_ptr<Message> gather_slices(const torch::Tensor& flat,
                                         const std::vector<int64_t>& offsets) override {
    return start(flat, [&] {
      for (size_t r = 0; r + 1 < offsets.size(); ++r) {
        send_to_all(slice_of(flat, offsets[r]), (offsets[r + 1] - offsets[r]) * flat.element_size(),
                    static_cast<int64_t>(r));
      }
    });
  }

  std::unique_ptr<Message> broadcast(const torch::Tensor& x, int64_t root) override {
    return start(
        x, [&] { send_to_all(x.mutable_data_ptr(), static_cast<int64_t>(x.nbytes()), root); });
  }

 private:
  void send_to_all(void* bytes, int64_t count, int64_t root) {
    check_nccl(ncclBroadcast(bytes, bytes, static_cast<size_t>(count), ncclUint8,
                             static_cast<int>(root), communicator_->get(), stream_));
  }

  /// Beside the stream that computes, after what makes x there.
  template <typename Calls>
  std::unique_ptr<Message> start(const torch::Tensor& x, const Calls& calls) {
    const c10::cuda::CUDAGuard guard(x.device());
    at::cuda::CUDAEvent made, ended;
    made.record(c10::cuda::getCurrentCUDAStream());
    made.block(stream_);
    check_nccl(ncclGroupStart());
    calls();
    check_nccl(ncclGroupEnd());
    communicator_->settle();  // on the stream, in front of the event
    ended.record(stream_);
    return std::make_unique<NcclMessage>(*communicator_, x, std::move(ended));
  }

  c10::cuda::CUDAStream stream_;
  std::optional<Communicator> communicator_;
};

/// NCCL refuses two ranks on one GPU.
bool each_has_its_own(Exchange& exchange, torch::Device device) {
  const auto& uuid = at::cuda::getDeviceProperties(device.index())->uuid;
  std::array<int64_t, 2> mine{};
  static_assert(sizeof(mine) == sizeof(uuid.bytes));
  std::memcpy(mine.data(), uuid.bytes, sizeof(mine));
  const torch::Tensor all = at::zeros({exchange.size(), 2}, torch::kInt64);
  for (int64_t i = 0; i < 2; ++i) all[exchange.rank()][i].fill_(mine[static_cast<size_t>(i)]);
  exchange.sum(all);
  std::set<std::pair<int64_t, int64_t>> gpus;
  const auto rows = all.accessor<int64_t, 2>();
  for (int64_t r = 0; r < rows.size(0); ++r) gpus.emplace(rows[r][0], rows[r][1]);
  return std::cmp_equal(gpus.size(), exchange.size());
}

}  // namespace

std::unique_ptr<DeviceCollectives> nccl_collectives(Exchange& exchange, torch::Device device) {
  if (!device.is_cuda() || !each_has_its_own(exchange, device)) return nullptr;
  ncclUniqueId id{};
  if (exchange.rank() == 0) check_nccl(ncclGetUniqueId(&id));
  const torch::Tensor shared = at::zeros({NCCL_UNIQUE_ID_BYTES}, torch::kInt8);
  std::memcpy(shared.mutable_data_ptr(), id.internal, NCCL_UNIQUE_ID_BYTES);
  exchange.broadcast(shared, 0);
  std::memcpy(id.internal, shared.const_data_ptr(), NCCL_UNIQUE_ID_BYTES);
  return std::make_unique<NcclCollectives>(id, exchange, device);
}

}  // namespace schmidt::parallel

#else

namespace schmidt::parallel {

std::unique_ptr<DeviceCollectives> nccl_collectives(Exchange&, torch::Device) { return nullptr; }

}  // namespace schmidt::parallel

#endif
