#include "schmidt/parallel/transport.h"

#include <algorithm>
#include <set>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/mpi_calls.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::parallel {
namespace {

#ifdef SCHMIDT_MPI

constexpr int kGreeting = Transport::kDirect + 1;
constexpr size_t kLargest = size_t{1} << 30;  // MPI counts bytes in an int

class MpiMessage : public Message {
 public:
  // Where it is not done MPI may still write: whoever gives up leaves the bytes in place.
  explicit MpiMessage(std::vector<MPI_Request> parts) : parts_(std::move(parts)) {}

  bool done() override {
    const std::lock_guard lock(mpi_mutex());
    int all = 0;
    check_mpi(
        MPI_Testall(static_cast<int>(parts_.size()), parts_.data(), &all, MPI_STATUSES_IGNORE),
        "a message");
    return all != 0;
  }

 private:
  std::vector<MPI_Request> parts_;
};

class MpiTransport : public Transport {
 public:
  explicit MpiTransport(std::vector<int64_t> ranks) : ranks_(std::move(ranks)) {
    const std::vector<int> members(ranks_.begin(), ranks_.end());
    const std::lock_guard lock(mpi_mutex());
    MPI_Group world, group;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, static_cast<int>(members.size()), members.data(), &group);
    MPI_Comm_create_group(MPI_COMM_WORLD, group, /*tag=*/0, &communicator_);
    MPI_Group_free(&group);
    MPI_Group_free(&world);
    MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(communicator_, &rank_);
  }

  // The communicator stays: a rank that gives up cannot free it with the others.

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return static_cast<int64_t>(ranks_.size()); }
  int64_t global_rank(int64_t r) const override { return ranks_.at(static_cast<size_t>(r)); }

  std::unique_ptr<Message> send(std::span<const std::byte> bytes, int64_t to,
                                Channel channel) override {
    return start(bytes, [&](std::span<const std::byte> part, MPI_Request& request) {
      return MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, static_cast<int>(to),
                       channel, communicator_, &request);
    });
  }

  std::unique_ptr<Message> receive(std::span<std::byte> bytes, int64_t from,
                                   Channel channel) override {
    return start(bytes, [&](std::span<std::byte> part, MPI_Request& request) {
      return MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_BYTE, static_cast<int>(from),
                       channel, communicator_, &request);
    });
  }

  void greet(int64_t to) override {
    const std::lock_guard lock(mpi_mutex());
    MPI_Request request;
    check_mpi(
        MPI_Isend(nullptr, 0, MPI_BYTE, static_cast<int>(to), kGreeting, communicator_, &request),
        "a greeting");
    MPI_Request_free(&request);
  }

  std::optional<int64_t> greeted() override {
    const std::lock_guard lock(mpi_mutex());
    int there = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, kGreeting, communicator_, &there, &status), "a greeting");
    if (there == 0) return std::nullopt;
    check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, kGreeting, communicator_,
                       MPI_STATUS_IGNORE),
              "a greeting");
    return status.MPI_SOURCE;
  }

 private:
  template <typename Bytes, typename Start>
  static std::unique_ptr<Message> start(Bytes bytes, const Start& start_part) {
    const std::lock_guard lock(mpi_mutex());
    std::vector<MPI_Request> parts;
    do {
      const auto part = bytes.first(std::min(bytes.size(), kLargest));
      check_mpi(start_part(part, parts.emplace_back(MPI_REQUEST_NULL)), "a message");
      bytes = bytes.subspan(part.size());
    } while (!bytes.empty());
    return std::make_unique<MpiMessage>(std::move(parts));
  }

  std::vector<int64_t> ranks_;
  MPI_Comm communicator_ = MPI_COMM_NULL;
  int rank_ = 0;
};

#endif

}  // namespace

std::unique_ptr<Transport> make_transport(const std::vector<int64_t>& ranks) {
  const std::set<int64_t> distinct(ranks.begin(), ranks.end());
  TORCH_CHECK_VALUE(distinct.size() == ranks.size() && distinct.contains(rank()) &&
                        *distinct.begin() >= 0 && *distinct.rbegin() < size(),
                    "[exchange] expected distinct ranks below ", size(), " with ", rank(),
                    " among them, got ", fmt::format("{}", fmt::join(ranks, ", ")));
  if (ranks.size() == 1) return nullptr;
#ifdef SCHMIDT_MPI
  return std::make_unique<MpiTransport>(ranks);
#else
  TORCH_INTERNAL_ASSERT(false, "several ranks in a build without MPI");
#endif
}

}  // namespace schmidt::parallel
